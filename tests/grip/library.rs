//! What the library can tell a real Pushpin, and what a client sees of it. The backend is a handler in this process:
//! Lambda has no part in it.

mod control;
mod function;
mod hold;
mod newer;
mod publish;
mod websocket;
