//! The function's real binary behind a real Pushpin.

mod channels;
mod function;
mod load;
mod signatures;
mod websocket;
