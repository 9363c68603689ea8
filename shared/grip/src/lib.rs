//! GRIP and WebSocket-over-HTTP for Rust: raw WebSockets, long-polls and HTTP streams on a function that holds no
//! connection.
#![doc = include_str!("../README.md")]
//!
//! # The parts of the crate
//!
//! - [`WebSocket`] reads one request of a connection and builds the response. [`Event`] and [`Events`] are the encoding
//!   below it, and [`Control`] is an instruction to the proxy about a connection.
//! - [`Hold`] turns a response into a long-poll or a stream.
//! - [`Verifier`] checks that the proxy made a request, with a [`Key`].
//! - [`Item`] is a publication to a channel. `Publisher` (feature `publish`) sends it to the proxy that a [`GripUrl`]
//!   names.
//! - [`channels`] keeps a history of each channel, resumes clients, checks tokens, and knows who is present.
//! - The module `lambda` (feature `lambda`) converts HTTP events of AWS Lambda from and to [`http`] types.
//!
//! Apart from `Publisher`, the crate does no input or output.
//!
//! # Verifying the proxy
//!
//! The address of a function may be public, and everyone can send it a request that looks like the proxy's. Check the
//! signature before trusting a request:
//!
//! ```
//! use grip::{Key, Origin, Verifier};
//!
//! # fn f(request: &http::Request<Vec<u8>>) -> Result<(), Box<dyn std::error::Error>> {
//! let verifier = Verifier::new(Key::parse("base64:c2VjcmV0")?).issuer("pushpin");
//! if verifier.check(request.headers())? == Origin::Proxy {
//!     // The Meta-* and Grip-* headers come from the proxy.
//! }
//! # Ok(())
//! # }
//! # f(&http::Request::new(Vec::new())).unwrap();
//! ```
//!
//! # Sizes
//!
//! | What | At most |
//! | --- | --- |
//! | a client's message | 200,000 bytes with Pushpin |
//! | a response | [`ANSWER_BYTES`] |
//! | a control message | [`CONTROL_BYTES`] |
//! | a publication | 1,000,000 bytes with Pushpin, 64 kB with Fanout |
//!
//! The memory that the crate needs is proportional to the size of the request, whatever the request contains.

pub mod channels;
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
mod response;
mod signature;
mod token;
mod websocket;

pub use close::{Close, InvalidClose, REASON_BYTES};
pub use control::{Automatic, CONTROL_BYTES, Control, Mode};
pub use event::{CONTENT_TYPE, Event, Events, InvalidBody, Problem};
pub use grip_url::{Auth, GripUrl, InvalidUrl};
pub use hold::{Channel, Hold, INSTRUCT_TYPE, InvalidHold};
pub use keep_alive::{Format, InvalidKeepAlive, KeepAlive};
pub use key::{InvalidKey, Key};
pub use publish::{HttpStream, Item, WsMessage};
#[cfg(feature = "publish")]
pub use publish::{PUBLISH_BYTES, PublishError, Publisher};
pub use response::HeaderNotUtf8;
pub use signature::{InvalidSignature, NotSigned, Origin, Verifier};
pub use token::TOKEN_CHARS;
pub use websocket::{ANSWER_BYTES, ControlTooLarge, End, InvalidHeader, Message, NotWebSocket, WebSocket};
