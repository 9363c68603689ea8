//! Items: publications to a channel, with one form for each kind of listener.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::Response;
use serde_json::{Map, Value, json};

use crate::close::{Close, InvalidClose};
use crate::response::{self, HeaderNotUtf8};

/// One publication to a channel, in separate forms for WebSockets, streams and long-polls. Listeners of a kind for
/// which the item has no form receive nothing.
///
/// ```
/// use grip::{HttpStream, Item, WsMessage};
///
/// let response = http::Response::new(b"hello\n".to_vec());
/// let item = Item::new("echo")
///     .websocket(WsMessage::text("hello"))
///     .stream(HttpStream::text("hello\n"))
///     .response(&response)?;
/// assert_eq!(item.json("")["formats"]["ws-message"]["content"], "hello");
/// # Ok::<_, grip::HeaderNotUtf8>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    channel: String,
    /// The members of the item besides its channel and formats.
    members: Map<String, Value>,
    formats: Map<String, Value>,
}

impl Item {
    /// An item for the channel of this name, without the prefix.
    pub fn new(channel: impl Into<String>) -> Self {
        Self { channel: channel.into(), members: Map::new(), formats: Map::new() }
    }

    fn with(mut self, name: &str, value: Value) -> Self {
        self.members.insert(name.to_owned(), value);
        self
    }

    /// The item's id, which a later request of the client names with [`Channel::prev_id`](crate::Channel::prev_id).
    #[must_use]
    pub fn id(self, id: impl Into<String>) -> Self {
        self.with("id", Value::String(id.into()))
    }

    /// The id of the item before this one. If the proxy has not seen that item, it waits some seconds for it.
    #[must_use]
    pub fn prev_id(self, id: impl Into<String>) -> Self {
        self.with("prev-id", Value::String(id.into()))
    }

    /// Delivers the item at once, without waiting for the item before it.
    #[must_use]
    pub fn no_seq(self) -> Self {
        self.with("no-seq", Value::Bool(true))
    }

    /// Adds a value that filters can read, such as `sender` for `skip-self`.
    #[must_use]
    pub fn meta(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let meta = self.members.entry("meta").or_insert_with(|| json!({}));
        if let Value::Object(meta) = meta {
            meta.insert(name.into(), Value::String(value.into()));
        }
        self
    }

    /// The form for WebSockets.
    #[must_use]
    pub fn websocket(mut self, message: WsMessage) -> Self {
        self.formats.insert("ws-message".to_owned(), Value::Object(message.0));
        self
    }

    /// The form for streams.
    #[must_use]
    pub fn stream(mut self, part: HttpStream) -> Self {
        self.formats.insert("http-stream".to_owned(), Value::Object(part.0));
        self
    }

    /// The form for long-polls: the whole response that the client receives.
    pub fn response(mut self, response: &Response<Vec<u8>>) -> Result<Self, HeaderNotUtf8> {
        let json = response::json(response, response.status())?;
        self.formats.insert("http-response".to_owned(), json);
        Ok(self)
    }

    /// Makes the proxy repeat the request of each long-poll instead of answering it.
    #[must_use]
    pub fn response_hint(mut self) -> Self {
        self.formats.insert("http-response".to_owned(), json!({ "action": "hint" }));
        self
    }

    /// The item in the JSON form that the control endpoint reads.
    pub fn json(&self, prefix: &str) -> Value {
        let mut json = self.members.clone();
        json.insert("channel".to_owned(), Value::String(format!("{prefix}{}", self.channel)));
        json.insert("formats".to_owned(), Value::Object(self.formats.clone()));
        Value::Object(json)
    }
}

/// The form of an item for WebSockets.
#[derive(Debug, Clone, PartialEq)]
pub struct WsMessage(Map<String, Value>);

impl WsMessage {
    fn of(kind: &str, name: &str, content: String) -> Self {
        Self(Map::from_iter([("type".to_owned(), json!(kind)), (name.to_owned(), Value::String(content))]))
    }

    /// A text message.
    pub fn text(text: impl Into<String>) -> Self {
        Self::of("text", "content", text.into())
    }

    /// A binary message.
    pub fn binary(bytes: impl AsRef<[u8]>) -> Self {
        Self::of("binary", "content-bin", BASE64.encode(bytes))
    }

    /// A ping.
    pub fn ping(payload: impl AsRef<[u8]>) -> Self {
        Self::of("ping", "content-bin", BASE64.encode(payload))
    }

    /// An unsolicited pong.
    pub fn pong(payload: impl AsRef<[u8]>) -> Self {
        Self::of("pong", "content-bin", BASE64.encode(payload))
    }

    /// Closes the connection with a code and a reason.
    pub fn close(code: u16, reason: &str) -> Result<Self, InvalidClose> {
        let close = Close::new(code, reason)?;
        let json = [("action", json!("close")), ("code", json!(code)), ("reason", json!(close.reason))];
        Ok(Self(json.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()))
    }

    /// Makes the proxy send the function a request without events. Pushpin supports this since 1.38; earlier versions
    /// refuse the publication. Pushpin ignores hints, which streams and long-polls have, on a WebSocket.
    pub fn refresh() -> Self {
        Self(Map::from_iter([("action".to_owned(), json!("refresh"))]))
    }

    /// Applies filters to the content before delivery, such as `var-subst`.
    #[must_use]
    pub fn content_filters(mut self, filters: &[&str]) -> Self {
        self.0.insert("content-filters".to_owned(), json!(filters));
        self
    }
}

/// The form of an item for streams.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpStream(Map<String, Value>);

impl HttpStream {
    fn of(name: &str, value: String) -> Self {
        Self(Map::from_iter([(name.to_owned(), Value::String(value))]))
    }

    /// Adds text to the stream.
    pub fn text(text: impl Into<String>) -> Self {
        Self::of("content", text.into())
    }

    /// Adds bytes to the stream.
    pub fn binary(bytes: impl AsRef<[u8]>) -> Self {
        Self::of("content-bin", BASE64.encode(bytes))
    }

    /// Ends the stream.
    pub fn close() -> Self {
        Self::of("action", "close".to_owned())
    }

    /// Makes the proxy request the stream's `next` link (see [`Hold::next`](crate::Hold::next)).
    pub fn hint() -> Self {
        Self::of("action", "hint".to_owned())
    }

    /// Applies filters to the content before delivery, such as `var-subst`.
    #[must_use]
    pub fn content_filters(mut self, filters: &[&str]) -> Self {
        self.0.insert("content-filters".to_owned(), json!(filters));
        self
    }
}

/// The body of a request to the control endpoint.
#[cfg(feature = "publish")]
pub(crate) fn body(items: &[Item], prefix: &str) -> Vec<u8> {
    let items: Vec<_> = items.iter().map(|item| item.json(prefix)).collect();
    json!({ "items": items }).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_has_the_form_that_pushpin_reads() {
        let response = Response::builder().status(202).header("X-A", "1").body(b"ok\n".to_vec()).unwrap();
        let item = Item::new("a\"b")
            .id("2")
            .prev_id("1")
            .no_seq()
            .meta("sender", "me")
            .websocket(WsMessage::text("hi").content_filters(&["var-subst"]))
            .stream(HttpStream::binary(b"\xff"))
            .response(&response)
            .unwrap();

        assert_eq!(
            item.json("app-"),
            json!({
                "channel": "app-a\"b", "id": "2", "prev-id": "1", "no-seq": true, "meta": {"sender": "me"},
                "formats": {
                    "ws-message": {"type": "text", "content": "hi", "content-filters": ["var-subst"]},
                    "http-stream": {"content-bin": "/w=="},
                    "http-response": {"code": 202, "reason": "Accepted", "headers": [["x-a", "1"]], "body": "ok\n"},
                },
            })
        );
    }

    #[test]
    fn each_action_has_the_form_that_pushpin_reads() {
        for (message, expected) in [
            (WsMessage::binary(b"\x00"), json!({"type": "binary", "content-bin": "AA=="})),
            (WsMessage::ping("p"), json!({"type": "ping", "content-bin": "cA=="})),
            (WsMessage::pong("p"), json!({"type": "pong", "content-bin": "cA=="})),
            (
                WsMessage::close(4002, "enough").unwrap(),
                json!({"action": "close", "code": 4002, "reason": "enough"}),
            ),
            (WsMessage::refresh(), json!({"action": "refresh"})),
        ] {
            assert_eq!(Value::Object(message.0), expected);
        }
        assert_eq!(WsMessage::close(1006, ""), Err(InvalidClose::Code(1006)));
        assert_eq!(Value::Object(HttpStream::close().0), json!({"action": "close"}));
        assert_eq!(Value::Object(HttpStream::hint().0), json!({"action": "hint"}));

        let item = Item::new("a").response_hint();
        assert_eq!(item.json("")["formats"]["http-response"], json!({"action": "hint"}));
    }
}
