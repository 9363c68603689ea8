//! An event of Lambda: reading it must not panic, whatever it contains.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(event) = grip::lambda::Event::parse(text) {
        if let Ok((request, reply)) = event.into_request() {
            let _ = reply.response(http::Response::new(request.into_body()));
        }
    }
});
