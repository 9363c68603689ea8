//! The function's real binary behind a real Pushpin, seen by a WebSocket client that is not ours.

mod channels;
mod load;
mod signatures;
mod stack;
mod websocket;
