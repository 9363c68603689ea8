//! The errors of reading a WebSocket-over-HTTP request and of building its response.

use http::{Response, StatusCode};

use crate::control::CONTROL_BYTES;
use crate::event::{CONTENT_TYPE, InvalidBody};
use crate::response::plain;

/// Why a request is not a WebSocket-over-HTTP request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotWebSocket {
    /// The method is not `POST`.
    #[error("the request's method is not POST")]
    NotPost,
    /// The content type is not [`CONTENT_TYPE`].
    #[error("the request's content type is not {CONTENT_TYPE}")]
    ContentType,
    /// The header `Connection-Id` is missing or empty.
    #[error("the request has no Connection-Id")]
    NoConnectionId,
    /// The body is not a valid sequence of WebSocket-over-HTTP events.
    #[error(transparent)]
    Body(#[from] InvalidBody),
}

impl NotWebSocket {
    /// The response that GRIP libraries give to such a request: 400 `Not a WebSocket-over-HTTP request`, plain text.
    pub fn to_response(self) -> Response<Vec<u8>> {
        plain(StatusCode::BAD_REQUEST, "Not a WebSocket-over-HTTP request\n")
    }
}

/// A control message is larger than [`CONTROL_BYTES`]. The field holds its size in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the control message has {0} bytes; the proxy accepts at most {CONTROL_BYTES}")]
pub struct ControlTooLarge(pub usize);

/// A header name or value contains a character that HTTP does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the header's name or value contains a character that HTTP does not allow there")]
pub struct InvalidHeader;
