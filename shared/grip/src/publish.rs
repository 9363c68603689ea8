//! Publishing to channels: items, and the client that sends them to the proxy's control endpoint (feature `publish`).

#[cfg(feature = "publish")]
mod client;
mod item;

#[cfg(feature = "publish")]
pub use client::{PUBLISH_BYTES, PublishError, Publisher};
pub use item::{HttpStream, Item, WsMessage};
