//! Publishing: items, and (feature `publish`) the client that brings them to the control endpoint.

mod item;

#[cfg(feature = "publish")]
mod client;

#[cfg(feature = "publish")]
pub use client::{PUBLISH_BYTES, PublishError, Publisher};
pub use item::{HttpStream, Item, WsMessage};
