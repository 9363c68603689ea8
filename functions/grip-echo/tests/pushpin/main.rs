//! The function's real binary behind a real Pushpin, seen by a WebSocket client that is not ours.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod channels;
mod load;
mod signatures;
mod stack;
mod websocket;
