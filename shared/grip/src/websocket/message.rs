//! The messages of a connection, and the ways in which a connection ends.

use crate::close::Close;

/// A message: received from the client and borrowed from the request's body, or to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
}

impl<'a> From<&'a str> for Message<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a String> for Message<'a> {
    fn from(text: &'a String) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a [u8]> for Message<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Binary(bytes)
    }
}

/// How a connection ended: the result of [`WebSocket::end`](crate::WebSocket::end).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End<'a> {
    /// The client closed the connection. The response contains the reply to its close.
    Closed(Close<'a>),
    /// The client violated the protocol. The response closes the connection with this code.
    Failed(u16),
    /// The connection was lost. Messages no longer reach the client.
    Disconnected,
    /// The function closed the connection.
    ByUs,
}
