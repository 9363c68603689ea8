//! What is published: an item for a channel, in the forms that its listeners need.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::Response;
use serde_json::{Map, Value, json};

use crate::close::{Close, InvalidClose};
use crate::hold::{InvalidHold, headers_json};

/// One publication to a channel: for WebSockets, streams and long-polls, each in its own form. A listener whose
/// form is missing gets nothing.
///
/// ```
/// use grip::{HttpStream, Item, WsMessage};
///
/// let response = http::Response::new(b"hello\n".to_vec());
/// let item = Item::new("echo")
///     .websocket(WsMessage::text("hello"))
///     .stream(HttpStream::text("hello\n"))
///     .response(&response)?;
/// # Ok::<_, grip::InvalidHold>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    channel: String,
    rest: Map<String, Value>,
    formats: Map<String, Value>,
}

impl Item {
    /// An item for a channel, by its name without the prefix.
    pub fn new(channel: impl Into<String>) -> Self {
        Self { channel: channel.into(), rest: Map::new(), formats: Map::new() }
    }

    fn with(mut self, name: &str, value: Value) -> Self {
        self.rest.insert(name.to_owned(), value);
        self
    }

    /// Names the item: a client that has it says so with [`Channel::prev_id`](crate::Channel::prev_id).
    #[must_use]
    pub fn id(self, id: impl Into<String>) -> Self {
        self.with("id", Value::String(id.into()))
    }

    /// The item before this one. Where the proxy has not seen it, it waits some seconds for it.
    #[must_use]
    pub fn prev_id(self, id: impl Into<String>) -> Self {
        self.with("prev-id", Value::String(id.into()))
    }

    /// Delivers at once, whatever came before.
    #[must_use]
    pub fn no_seq(self) -> Self {
        self.with("no-seq", Value::Bool(true))
    }

    /// Adds a value for filters to look at, such as `sender` for `skip-self`.
    #[must_use]
    pub fn meta(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let meta = self.rest.entry("meta").or_insert_with(|| json!({}));
        if let Value::Object(meta) = meta {
            meta.insert(name.into(), Value::String(value.into()));
        }
        self
    }

    /// What WebSockets get.
    #[must_use]
    pub fn websocket(mut self, message: WsMessage) -> Self {
        self.formats.insert("ws-message".to_owned(), Value::Object(message.0));
        self
    }

    /// What streams get.
    #[must_use]
    pub fn stream(mut self, part: HttpStream) -> Self {
        self.formats.insert("http-stream".to_owned(), Value::Object(part.0));
        self
    }

    /// What long-polls get.
    pub fn response(mut self, response: &Response<Vec<u8>>) -> Result<Self, InvalidHold> {
        let mut json = json!({
            "code": response.status().as_u16(),
            "reason": response.status().canonical_reason().unwrap_or_default(),
            "headers": headers_json(response.headers())?,
        });
        match std::str::from_utf8(response.body()) {
            Ok(text) => json["body"] = json!(text),
            Err(_) => json["body-bin"] = json!(BASE64.encode(response.body())),
        }
        self.formats.insert("http-response".to_owned(), json);
        Ok(self)
    }

    /// Has long-polls ask the function again instead of getting something.
    #[must_use]
    pub fn response_hint(mut self) -> Self {
        self.formats.insert("http-response".to_owned(), json!({ "action": "hint" }));
        self
    }

    /// The item as the control endpoint reads it.
    pub fn json(&self, prefix: &str) -> Value {
        let mut json = self.rest.clone();
        json.insert("channel".to_owned(), Value::String(format!("{prefix}{}", self.channel)));
        json.insert("formats".to_owned(), Value::Object(self.formats.clone()));
        Value::Object(json)
    }
}

/// What a publication is to WebSockets.
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

    /// A pong that nobody asked for.
    pub fn pong(payload: impl AsRef<[u8]>) -> Self {
        Self::of("pong", "content-bin", BASE64.encode(payload))
    }

    /// Ends the connection.
    pub fn close(code: u16, reason: &str) -> Result<Self, InvalidClose> {
        let close = Close::new(code, reason)?;
        let json = [("action", json!("close")), ("code", json!(code)), ("reason", json!(close.reason))];
        Ok(Self(json.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()))
    }

    /// Has the proxy ask the function, with a request that holds no event. Pushpin knows this from 1.38 on, and
    /// earlier ones refuse the publication; a hint, which streams and long-polls have, none obeys here.
    pub fn refresh() -> Self {
        Self(Map::from_iter([("action".to_owned(), json!("refresh"))]))
    }

    /// Applies filters to the content on its way, such as `var-subst`.
    #[must_use]
    pub fn content_filters(mut self, filters: &[&str]) -> Self {
        self.0.insert("content-filters".to_owned(), json!(filters));
        self
    }
}

/// What a publication is to streams.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpStream(Map<String, Value>);

impl HttpStream {
    fn of(name: &str, value: String) -> Self {
        Self(Map::from_iter([(name.to_owned(), Value::String(value))]))
    }

    /// Text to be added.
    pub fn text(text: impl Into<String>) -> Self {
        Self::of("content", text.into())
    }

    /// Bytes to be added.
    pub fn binary(bytes: impl AsRef<[u8]>) -> Self {
        Self::of("content-bin", BASE64.encode(bytes))
    }

    /// Ends the stream.
    pub fn close() -> Self {
        Self::of("action", "close".to_owned())
    }

    /// Has the proxy ask where the stream's link points.
    pub fn hint() -> Self {
        Self::of("action", "hint".to_owned())
    }

    /// Applies filters to the content on its way, such as `var-subst`.
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
    fn an_item_is_written_as_the_proxy_reads_it() {
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
    fn each_action_is_written_as_the_proxy_reads_it() {
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
