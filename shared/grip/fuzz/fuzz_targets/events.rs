//! A request of a proxy, or of a client that claims to be a proxy. Decoding and answering it must not panic, and
//! encoding the decoded events must give the same bytes.

#![no_main]

use grip::{Events, WebSocket};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    if let Ok(events) = Events::decode(body) {
        let mut encoded = Vec::new();
        for event in events.clone() {
            event.encode(&mut encoded);
        }
        let again: Vec<_> = Events::decode(&encoded).expect("an encoded event is valid").collect();
        assert_eq!(events.collect::<Vec<_>>(), again);
    }

    let request = http::Request::post("/")
        .header("content-type", "application/websocket-events")
        .header("connection-id", "1")
        .body(body)
        .expect("a fixed request is valid");
    if let Ok(mut ws) = WebSocket::read(&request) {
        ws.accept();
        while let Some(message) = ws.recv() {
            ws.send(message);
        }
        let _ = ws.to_response();
    }
});
