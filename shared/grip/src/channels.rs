//! Channels that lose nothing: after a dropped connection, a client receives what it missed, in order and once, or it
//! learns that something is lost.
//!
//! [`Channels`] serves every request of an application's channels. Three things are yours to choose: a [`Store`] for the
//! histories ([`MemoryStore`], or `DynamoStore` with the feature `dynamodb`), a [`Proxy`] to publish through
//! (`Publisher`, with the feature `publish`), and a [`ChannelAuthorizer`] that decides who may do what
//! ([`JwtAuthorizer`], or [`Anybody`]).
//!
//! ```
//! use grip::Item;
//! use grip::channels::{Anybody, Channels, MemoryStore, Proxy};
//!
//! /// A proxy without clients.
//! struct Nobody;
//!
//! impl Proxy for Nobody {
//!     async fn publish(&self, _items: &[Item]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//!         Ok(())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), grip::channels::ChannelsError> {
//! let channels = Channels::new(MemoryStore::new(), Nobody, Anybody);
//! let first = channels.publish("room", r#"{"text":"hello"}"#).await?;
//! let second = channels.publish("room", r#"{"text":"is anybody there?"}"#).await?;
//! assert_eq!(second.previous(), first);
//!
//! let request = http::Request::get(format!("/room/poll?after={first}")).body(Vec::new()).unwrap();
//! let response = channels.serve("/room/poll", &request).await;
//! assert!(String::from_utf8_lossy(response.body()).contains("is anybody there?"));
//! # Ok(())
//! # }
//! ```
//!
//! # Guarantees
//!
//! - Every item has a [`Position`] in its channel: the epoch of the history, and an offset that increases by one.
//! - An item is in the history before it is sent to the proxy. A client that sees a gap between two offsets, or another
//!   epoch, asks for what it missed.
//! - A client that resumes receives every item after its position, or learns which items are lost. It never learns of a
//!   loss that did not happen.
//! - The last item of a channel may reach a client late if the proxy did not receive it: with the next item, or with the
//!   client's next confirmation.
//!
//! One thing is not guaranteed: if `publish` fails with another error than `Undelivered`, the publisher does not know
//! whether the item was added.
//!
//! # Messages on the WebSocket
//!
//! The subprotocol is `grip-channels.1`, and a token is offered as a second subprotocol, `bearer.TOKEN`. The browser
//! client [`CLIENT_JS`] speaks the protocol.
//!
//! | The client sends | It receives |
//! | --- | --- |
//! | `subscribe` `{n, channels: {NAME: POSITION or null}, recent}` | for each channel `subscribed`, `lost`, `denied` or `refused`; then its `item`s; at the end `subscribing` `{n}` |
//! | `confirm` `{n, channels}` | the `item`s missed meanwhile, `confirmed` `{n}`, and through the proxy `live` `{n}`: with both, nothing is missed |
//! | `publish` `{channel, data, ref}` | `published` `{ref, id}` or `unpublished` `{ref, code, reason}` |
//! | `enter` `{channel, info}`, `leave`, `members` | `members`; every subscriber of the channel receives `joined` and `left` |
//! | `unsubscribe` `{channels}` | nothing |
//!
//! `more` says that a reply had no room for everything; confirm again to get the rest.
//! `failed` says that the store or the proxy failed.

mod access;
mod attendance;
mod core;
mod credential;
#[cfg(feature = "dynamodb")]
mod dynamo;
mod held;
mod jwt;
mod memory;
mod name;
mod position;
mod serve;
mod served;
mod socket;
mod store;
mod wire;

pub use self::core::{CONTENT_BYTES, Channels, ChannelsError, Proxy};
pub use access::{Action, Anybody, ChannelAuthorizer, Denied, Grant, Identity};
#[cfg(feature = "dynamodb")]
pub use dynamo::DynamoStore;
pub use jwt::JwtAuthorizer;
pub use memory::MemoryStore;
pub use name::{InvalidName, NAME_BYTES};
pub use position::{InvalidPosition, Position};
pub use served::CHANNELS;
pub use store::{Appended, Entry, History, Member, Presence, Replay, Revocations, Store, StoreError};
pub use wire::SUBPROTOCOL;

/// The client for browsers, one ES module without dependencies. Serve it as `text/javascript`, or copy
/// `client/grip-channels.js` and its types from the package.
pub const CLIENT_JS: &str = include_str!("../client/grip-channels.js");
