//! GRIP behind a real Pushpin: the library, the function `grip-echo`, and the example `grip-chat`.
//!
//! Every test starts a Pushpin of its own on loopback ports (`stack.rs`) and talks to it through a WebSocket client that
//! is not ours (`client.rs`).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "a measurement prints its table")]

mod channels;
mod client;
mod echo;
mod library;
mod stack;
