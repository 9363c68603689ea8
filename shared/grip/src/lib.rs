//! GRIP for functions: raw WebSockets, long-poll and streams on code that runs only when something happens.
//!
//! A GRIP proxy ([Pushpin](https://pushpin.org), or Fastly Fanout) holds the connections of clients. It turns
//! what happens on a WebSocket into HTTP requests, asks the function what to do, and sends what is published to
//! a channel to everybody who listens to it, without asking. The function holds nothing open.
//!
//! ```text
//! client ══WebSocket══ proxy ──POST application/websocket-events──▶ function
//! client ◀═══════════  proxy ◀──POST /publish/──  whoever has news
//! ```
//!
//! The library does no I/O but publishing. It speaks [`http`] types; what AWS Lambda makes of HTTP is
//! in the `lambda` module (feature `lambda`), and the client of the control endpoint is `Publisher`
//! (feature `publish`).
//!
//! # A WebSocket
//!
//! [`WebSocket::read`] takes a request, [`WebSocket::to_response`] makes the answer. In between, the function
//! reads and writes messages; pings, closes and broken input are answered as RFC 6455 wants it.
//!
//! ```
//! use grip::WebSocket;
//!
//! fn chat(request: &http::Request<Vec<u8>>) -> http::Response<Vec<u8>> {
//!     let mut ws = match WebSocket::read(request) {
//!         Ok(ws) => ws,
//!         Err(error) => return error.to_response(),
//!     };
//!     if ws.is_opening() {
//!         ws.accept();
//!         ws.subscribe("room").expect("a short name fits");
//!     }
//!     while ws.can_recv() {
//!         match ws.recv() {
//!             Some(message) => ws.send(message),
//!             None => break, // the client closed, and has its answer
//!         }
//!     }
//!     ws.to_response()
//! }
//! # let request = http::Request::post("/").header("Content-Type", "application/websocket-events")
//! #     .header("Connection-Id", "1").body(b"TEXT 2\r\nhi\r\n".to_vec()).unwrap();
//! # assert_eq!(chat(&request).body(), b"TEXT 4\r\nm:hi\r\n");
//! ```
//!
//! # Who is asking
//!
//! Whoever finds the function's address can write requests that look like the proxy's. [`Verifier`] tells: it
//! checks the proxy's signature with a [`Key`], and the issuer.
//!
//! ```
//! use grip::{Key, Origin, Verifier};
//!
//! # fn f(request: &http::Request<Vec<u8>>) -> Result<(), Box<dyn std::error::Error>> {
//! let verifier = Verifier::new(Key::parse("base64:c2VjcmV0")?).issuer("pushpin");
//! if verifier.check(request.headers())? == Origin::Proxy {
//!     // Meta-* and Grip-* headers are the proxy's.
//! }
//! # Ok(())
//! # }
//! # f(&http::Request::new(Vec::new())).unwrap();
//! ```
//!
//! # Long-poll and streams
//!
//! An ordinary response, and a [`Hold`] that tells the proxy to keep it open: see there.
//!
//! # Publishing
//!
//! An [`Item`] is one piece of news for a channel, in a form for each kind of listener; `Publisher::publish`
//! brings it to the proxy that a [`GripUrl`] names.
//!
//! # Sizes
//!
//! A client's message has at most 200,000 bytes with Pushpin, an answer at most [`ANSWER_BYTES`], a control
//! message [`CONTROL_BYTES`], a publication a million bytes (64 kB with Fanout). Nothing here takes more memory
//! than a small multiple of what came in.

mod close;
mod control;
mod event;
mod grip_url;
mod hold;
mod keep_alive;
mod key;
#[cfg(feature = "lambda")]
pub mod lambda;
mod publish;
mod signature;
mod websocket;

pub use close::{Close, InvalidClose, REASON_BYTES};
pub use control::{Automatic, CONTROL_BYTES, Control, Mode};
pub use event::{CONTENT_TYPE, Event, Events, InvalidBody, Problem};
pub use grip_url::{Auth, GripUrl, InvalidUrl};
pub use hold::{Channel, Hold, INSTRUCT_TYPE, InvalidHold};
pub use keep_alive::{Format, KeepAlive};
pub use key::{InvalidKey, Key};
pub use publish::{HttpStream, Item, WsMessage};
#[cfg(feature = "publish")]
pub use publish::{PUBLISH_BYTES, PublishError, Publisher};
pub use signature::{InvalidSignature, NotSigned, Origin, TOKEN_CHARS, Verifier};
pub use websocket::{ANSWER_BYTES, ControlTooLarge, End, InvalidHeader, Message, NotWebSocket, WebSocket};

use http::header::{CONTENT_TYPE as CONTENT_TYPE_HEADER, HeaderValue};
use http::{Response, StatusCode};

/// A plain text.
fn plain(status: StatusCode, text: &str) -> Response<Vec<u8>> {
    let mut response = Response::new(text.as_bytes().to_vec());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE_HEADER, HeaderValue::from_static("text/plain"));
    response
}
