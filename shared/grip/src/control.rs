//! Control messages: a function's instructions to the proxy about a connection. The client does not receive them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::ser::{Serialize, SerializeMap, Serializer};

/// The largest control message, in bytes. A proxy ignores a larger one without reporting an error.
pub const CONTROL_BYTES: usize = 16_384;

/// A message that the proxy sends to the client on its own, without asking the function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Automatic<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// A ping. The client's pong reaches the function as an event.
    Ping(&'a str),
    /// An unsolicited pong: a heartbeat that the client does not answer.
    Pong(&'a str),
}

/// When a keep-alive is due.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// After the timeout has passed without any other message being sent.
    #[default]
    Idle,
    /// Each time the timeout passes, even if other messages are sent.
    Interval,
}

impl Mode {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Interval => "interval",
        }
    }
}

/// A control message. Pushpin understands these eight and no others.
///
/// A control message goes to the proxy as a text event that starts with `c:`. A message for the client starts
/// with `m:`, and the proxy removes that prefix. The two prefixes keep the proxy from obeying a client's own text
/// that a function sends back (see [`WebSocket`](crate::WebSocket)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control<'a> {
    /// Subscribes the client to a channel: the proxy sends it every item that is published there.
    Subscribe {
        /// The channel's name, including the prefix.
        channel: &'a str,
        /// The names of the filters that the proxy applies, such as `skip-self`.
        filters: &'a [&'a str],
    },
    /// Ends the subscription to a channel.
    Unsubscribe {
        /// The channel's name, including the prefix.
        channel: &'a str,
    },
    /// The proxy sends the function no further requests for this connection. The client still receives what is
    /// published to its channels.
    Detach,
    /// Assigns the connection to a session, which the proxy's statistics count. The client does not see it.
    Session {
        /// The session's name.
        id: &'a str,
    },
    /// Attaches a value to the connection, which filters can read.
    SetMeta {
        /// The value's name.
        name: &'a str,
        /// The value.
        value: &'a str,
    },
    /// The proxy sends `message` whenever it is due. Without a message, the proxy stops.
    KeepAlive {
        /// The message to send, or `None` to end the keep-alive.
        message: Option<Automatic<'a>>,
        /// The interval in seconds.
        timeout: u32,
        /// When the message is due.
        mode: Mode,
    },
    /// Sends a message after the timeout. The next `SendDelayed` or [`FlushDelayed`](Self::FlushDelayed) sends it
    /// at once.
    SendDelayed {
        /// The message to send.
        message: Automatic<'a>,
        /// The delay in seconds.
        timeout: u32,
    },
    /// Sends the delayed message now.
    FlushDelayed,
}

impl Serialize for Control<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;

        match self {
            Self::Subscribe { channel, filters } => {
                map.serialize_entry("type", "subscribe")?;
                map.serialize_entry("channel", channel)?;
                if !filters.is_empty() {
                    map.serialize_entry("filters", filters)?;
                }
            }
            Self::Unsubscribe { channel } => {
                map.serialize_entry("type", "unsubscribe")?;
                map.serialize_entry("channel", channel)?;
            }
            Self::Detach => map.serialize_entry("type", "detach")?,
            Self::Session { id } => {
                map.serialize_entry("type", "session")?;
                map.serialize_entry("id", id)?;
            }
            Self::SetMeta { name, value } => {
                map.serialize_entry("type", "set-meta")?;
                map.serialize_entry("name", name)?;
                map.serialize_entry("value", value)?;
            }
            Self::KeepAlive { message, timeout, mode } => {
                map.serialize_entry("type", "keep-alive")?;
                if let Some(message) = message {
                    write_automatic(&mut map, message)?;
                    map.serialize_entry("timeout", timeout)?;
                    map.serialize_entry("mode", mode.name())?;
                }
            }
            Self::SendDelayed { message, timeout } => {
                map.serialize_entry("type", "send-delayed")?;
                write_automatic(&mut map, message)?;
                map.serialize_entry("timeout", timeout)?;
            }
            Self::FlushDelayed => map.serialize_entry("type", "flush-delayed")?,
        }
        map.end()
    }
}

/// Writes the members that describe an automatic message.
fn write_automatic<M: SerializeMap>(map: &mut M, message: &Automatic<'_>) -> Result<(), M::Error> {
    let (kind, content) = match message {
        Automatic::Text(content) => ("text", content),
        Automatic::Ping(content) => ("ping", content),
        Automatic::Pong(content) => ("pong", content),
        Automatic::Binary(content) => {
            map.serialize_entry("content-bin", &BASE64.encode(content))?;
            return map.serialize_entry("message-type", "binary");
        }
    };

    map.serialize_entry("content", content)?;
    map.serialize_entry("message-type", kind)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn each_control_message_has_the_form_that_pushpin_reads() {
        let (text, bytes) = (Automatic::Text("hi"), Automatic::Binary(b"\x00\xff"));
        for (control, expected) in [
            (
                Control::Subscribe { channel: "a\"b", filters: &["skip-self"] },
                json!({"type": "subscribe", "channel": "a\"b", "filters": ["skip-self"]}),
            ),
            (Control::Subscribe { channel: "a", filters: &[] }, json!({"type": "subscribe", "channel": "a"})),
            (Control::Unsubscribe { channel: "a" }, json!({"type": "unsubscribe", "channel": "a"})),
            (Control::Detach, json!({"type": "detach"})),
            (Control::Session { id: "s" }, json!({"type": "session", "id": "s"})),
            (
                Control::SetMeta { name: "n", value: "v" },
                json!({"type": "set-meta", "name": "n", "value": "v"}),
            ),
            (
                Control::KeepAlive { message: Some(bytes), timeout: 20, mode: Mode::Interval },
                json!({"type": "keep-alive", "content-bin": "AP8=", "message-type": "binary", "timeout": 20,
                    "mode": "interval"}),
            ),
            (
                Control::KeepAlive { message: None, timeout: 20, mode: Mode::Idle },
                json!({"type": "keep-alive"}),
            ),
            (
                Control::SendDelayed { message: text, timeout: 5 },
                json!({"type": "send-delayed", "content": "hi", "message-type": "text", "timeout": 5}),
            ),
            (Control::FlushDelayed, json!({"type": "flush-delayed"})),
        ] {
            assert_eq!(serde_json::to_value(control).unwrap(), expected);
        }

        for (message, kind) in [(Automatic::Ping("p"), "ping"), (Automatic::Pong("p"), "pong")] {
            let control = Control::SendDelayed { message, timeout: 1 };
            let value: Value = serde_json::to_value(control).unwrap();
            assert_eq!((&value["message-type"], &value["content"]), (&json!(kind), &json!("p")));
        }
    }
}
