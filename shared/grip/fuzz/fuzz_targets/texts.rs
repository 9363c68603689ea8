//! The texts that configuration and clients bring: positions, addresses of proxies, keys.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(position) = text.parse::<grip::channels::Position>() {
        assert_eq!(position.to_string(), text);
    }
    let _ = grip::GripUrl::parse(text);
    let _ = grip::Key::parse(text);
});
