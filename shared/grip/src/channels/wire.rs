//! The messages between a client and the function, as JSON texts.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::access::{Action, Denied};
use super::position::Position;
use super::store::{Entry, Member};

/// The WebSocket subprotocol of these messages.
pub const SUBPROTOCOL: &str = "grip-channels.1";

/// A client's message.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum FromClient<'a> {
    /// Subscribes to channels, each after a position. Without a position, the client receives the newest `recent` items.
    Subscribe {
        n: u64,
        channels: BTreeMap<String, Option<String>>,
        #[serde(default)]
        recent: usize,
    },
    /// Asks for the items that the client missed since it subscribed, and for a sign that its subscriptions are active.
    Confirm { n: u64, channels: BTreeMap<String, Option<String>> },
    /// Ends subscriptions.
    Unsubscribe { channels: Vec<String> },
    /// Publishes an item.
    Publish {
        channel: String,
        /// Set by [`FromClient::parse`].
        #[serde(skip, default = "null")]
        data: &'a RawValue,
        #[serde(default, rename = "ref")]
        reference: u64,
    },
    /// Becomes present in a channel.
    Enter {
        channel: String,
        #[serde(default)]
        info: Option<Value>,
    },
    /// Ends the presence in a channel.
    Leave { channel: String },
    /// Asks for the members of a channel.
    Members { channel: String },
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
}

fn null() -> &'static RawValue {
    RawValue::NULL
}

impl<'a> FromClient<'a> {
    /// Reads a message. The data of an item are read by themselves: serde keeps the text of a value only outside of an
    /// enum with a tag.
    pub(crate) fn parse(text: &'a str) -> serde_json::Result<Self> {
        let mut message = serde_json::from_str(text)?;
        if let Self::Publish { data, .. } = &mut message {
            *data = serde_json::from_str::<Data<'a>>(text)?.data;
        }
        Ok(message)
    }
}

#[derive(Serialize)]
struct Item<'a> {
    r#type: &'static str,
    channel: &'a str,
    id: String,
    prev: String,
    data: &'a RawValue,
}

/// An item, live or from the history: the two have the same form.
pub(crate) fn item(channel: &str, entry: &Entry) -> String {
    let null: &RawValue = RawValue::NULL;
    let data = serde_json::from_str::<&RawValue>(&entry.content).unwrap_or(null);
    let item = Item {
        r#type: "item",
        channel,
        id: entry.position.to_string(),
        prev: entry.position.previous().to_string(),
        data,
    };
    serde_json::to_string(&item).unwrap_or_default()
}

/// The place at which a subscription starts.
pub(crate) fn subscribed(channel: &str, position: Position) -> String {
    json!({ "type": "subscribed", "channel": channel, "id": position.to_string() }).to_string()
}

/// Items after `from` are gone. What follows starts after `position`.
pub(crate) fn lost(channel: &str, from: Position, position: Position) -> Value {
    json!({ "type": "lost", "channel": channel, "from": from.to_string(), "id": position.to_string() })
}

/// The response had no room for all that the client missed. It must ask again.
pub(crate) fn more(channel: &str) -> String {
    json!({ "type": "more", "channel": channel }).to_string()
}

/// The end of the reply to a message with a number.
pub(crate) fn done(kind: &str, n: u64) -> String {
    json!({ "type": kind, "n": n }).to_string()
}

/// The client may not do this in a channel.
pub(crate) fn denied(channel: &str, action: Action, why: Denied) -> String {
    json!({ "type": "denied", "channel": clip(channel), "action": action.name(), "reason": why.to_string() })
        .to_string()
}

/// Something in the message was wrong.
pub(crate) fn refused(channel: &str, code: &str, reason: &str) -> String {
    json!({ "type": "refused", "channel": clip(channel), "code": code, "reason": reason }).to_string()
}

/// The store or the proxy failed. The client may try again.
pub(crate) fn failed(n: u64) -> String {
    json!({ "type": "failed", "n": n }).to_string()
}

/// The client's item was published.
pub(crate) fn published(reference: u64, position: Position) -> String {
    json!({ "type": "published", "ref": reference, "id": position.to_string() }).to_string()
}

/// The client's item was not published.
pub(crate) fn unpublished(reference: u64, code: &str, reason: &str) -> String {
    json!({ "type": "unpublished", "ref": reference, "code": code, "reason": reason }).to_string()
}

/// A member came or went.
pub(crate) fn presence(kind: &str, channel: &str, member: &Member) -> String {
    json!({ "type": kind, "channel": channel, "member": member }).to_string()
}

/// Who is present.
pub(crate) fn members(channel: &str, members: &[(Member, SystemTime)]) -> Value {
    let members: Vec<&Member> = members.iter().map(|(member, _)| member).collect();
    json!({ "type": "members", "channel": channel, "members": members })
}

/// A name that a client sent, short enough to be sent back.
fn clip(name: &str) -> String {
    name.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_of_an_item_keep_their_text() {
        let message = r#"{"type":"publish","channel":"room.7","data":{"price":1.50},"ref":7}"#;

        let Ok(FromClient::Publish { channel, data, reference }) = FromClient::parse(message) else {
            panic!("the message is not read as a publication");
        };

        assert_eq!((channel.as_str(), data.get(), reference), ("room.7", r#"{"price":1.50}"#, 7));
    }

    #[test]
    fn an_item_without_data_is_refused() {
        assert!(FromClient::parse(r#"{"type":"publish","channel":"room.7"}"#).is_err());
    }
}
