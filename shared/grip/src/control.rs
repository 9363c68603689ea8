//! What a function tells the proxy about a connection, beside what it tells the client.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::ser::{Serialize, SerializeMap as _, Serializer};

/// Largest control message, in bytes: a proxy passes over a larger one without a word.
pub const CONTROL_BYTES: usize = 16_384;

/// A message that the proxy sends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Automatic<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// A ping; the client's pong comes back as an event.
    Ping(&'a str),
    /// A pong that nobody asked for: a one-way heartbeat.
    Pong(&'a str),
}

/// When a keep-alive is due.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// When nothing was sent for the whole timeout.
    #[default]
    Idle,
    /// Every time the timeout passes, whatever else is sent.
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

/// A control message: all eight that there are.
///
/// It goes to the proxy as a text event that starts with `c:`; what is for the client starts with `m:`, which
/// the proxy takes off. That is what keeps a client's own text from being obeyed
/// (see [`WebSocket`](crate::WebSocket)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control<'a> {
    /// From now on, what is published to the channel goes to this client too.
    Subscribe {
        /// The channel's name, with the prefix.
        channel: &'a str,
        /// Names of filters that the proxy applies, such as `skip-self`.
        filters: &'a [&'a str],
    },
    /// No longer.
    Unsubscribe {
        /// The channel's name, with the prefix.
        channel: &'a str,
    },
    /// The proxy stops asking the function about this connection; it lives on published messages.
    Detach,
    /// Names the session that this connection belongs to. A client sees nothing of it: it is for what counts
    /// sessions.
    Session {
        /// The session's name.
        id: &'a str,
    },
    /// Attaches a value to the connection for filters to look at.
    SetMeta {
        /// The value's name.
        name: &'a str,
        /// The value.
        value: &'a str,
    },
    /// The proxy sends a message of its own from time to time; no message ends that.
    KeepAlive {
        /// What is sent, if anything is.
        message: Option<Automatic<'a>>,
        /// How often, in seconds.
        timeout: u32,
        /// When it is due.
        mode: Mode,
    },
    /// Sends a message later, or when the next one of these comes, or when it is flushed.
    SendDelayed {
        /// What is sent.
        message: Automatic<'a>,
        /// When, in seconds from now.
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
                    automatic(&mut map, message)?;
                    map.serialize_entry("timeout", timeout)?;
                    map.serialize_entry("mode", mode.name())?;
                }
            }
            Self::SendDelayed { message, timeout } => {
                map.serialize_entry("type", "send-delayed")?;
                automatic(&mut map, message)?;
                map.serialize_entry("timeout", timeout)?;
            }
            Self::FlushDelayed => map.serialize_entry("type", "flush-delayed")?,
        }
        map.end()
    }
}

fn automatic<M: serde::ser::SerializeMap>(map: &mut M, message: &Automatic<'_>) -> Result<(), M::Error> {
    let kind = match message {
        Automatic::Text(_) => "text",
        Automatic::Binary(_) => "binary",
        Automatic::Ping(_) => "ping",
        Automatic::Pong(_) => "pong",
    };
    match message {
        Automatic::Text(content) | Automatic::Ping(content) | Automatic::Pong(content) => {
            map.serialize_entry("content", content)?;
        }
        Automatic::Binary(content) => map.serialize_entry("content-bin", &BASE64.encode(content))?,
    }
    map.serialize_entry("message-type", kind)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn each_is_written_as_the_proxy_reads_it() {
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
