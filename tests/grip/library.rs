//! What a function can tell a real Pushpin, and what a client sees of it. The function is a handler in this
//! process: Lambda has no part in it.

mod control;
mod hold;
mod publish;
mod stack;
mod websocket;
