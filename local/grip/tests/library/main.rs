//! What a function can tell a real Pushpin, and what a client sees of it. The function is a handler in this
//! process: Lambda has no part in it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod control;
mod hold;
mod publish;
mod stack;
mod websocket;
