//! A WebSocket connection, one request at a time: reads the client's messages and builds the response.
//!
//! The proxy sends the function a request whenever something happens on a connection. Nothing is kept between requests,
//! except the values that [`WebSocket::set_meta`] stores at the proxy.

mod error;
mod kept;
mod message;

use http::header::{CONTENT_TYPE as CONTENT_TYPE_HEADER, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};

use crate::close::{Close, InvalidClose};
use crate::control::{CONTROL_BYTES, Control};
use crate::event::{self, CONTENT_TYPE, Event, Events};
use crate::response::plain;

pub use error::{ControlTooLarge, InvalidHeader, NotWebSocket};
pub use message::{End, Message};

/// The largest response body that Pushpin accepts, in bytes. It cuts the connection on a larger one.
pub const ANSWER_BYTES: usize = 1_000_000;

/// The longest payload of a ping, in bytes (RFC 6455, section 5.5).
const PING_BYTES: usize = 125;

static CONNECTION_ID: HeaderName = HeaderName::from_static("connection-id");

/// One request of a connection: reads the client's messages, and builds the function's response.
///
/// The protocol's own replies are written automatically, in the order of the events:
///
/// | The client sends | The response contains |
/// | --- | --- |
/// | a ping | a pong with the same payload |
/// | a close | a close with the same code and reason |
/// | a text that is not UTF-8 | a close with code 1007 |
/// | a close with an invalid code | a close with code 1002 |
///
/// [`to_response`](Self::to_response) discards the messages that were not read, but still replies to the pings and
/// closes among them. [`keep_back`](Self::keep_back) leaves unread messages to a later request instead.
///
/// ```
/// use grip::WebSocket;
/// # fn answer(request: http::Request<Vec<u8>>) -> http::Response<Vec<u8>> {
/// let mut ws = match WebSocket::read(&request) {
///     Ok(ws) => ws,
///     Err(error) => return error.to_response(),
/// };
/// if ws.is_opening() {
///     ws.accept();
/// }
/// while let Some(message) = ws.recv() {
///     ws.send(message);
/// }
/// ws.to_response()
/// # }
/// # let request = http::Request::post("/").header("Content-Type", "application/websocket-events")
/// #     .header("Connection-Id", "1").body(b"OPEN\r\nTEXT 2\r\nhi\r\n".to_vec()).unwrap();
/// # assert_eq!(answer(request).body(), b"OPEN\r\nTEXT 4\r\nm:hi\r\n");
/// ```
///
/// # A client's text never becomes a control message
///
/// Every message is sent with the prefix `m:`, which the proxy removes. Only [`control`](Self::control) and its
/// shorthands write the prefix `c:`, which the proxy obeys. The protocol would allow an empty message prefix; then an
/// echo would let its clients subscribe to any channel. The prefix can therefore not be configured.
#[derive(Debug)]
pub struct WebSocket<'a> {
    headers: &'a HeaderMap,
    id: &'a str,
    prefix: &'a str,
    events: Events<'a>,
    next: Option<Message<'a>>,
    /// The bytes of content in the events that have been taken from `events`.
    taken: usize,
    /// The bytes of content that the function accepts, if it keeps back the rest.
    content_accepted: Option<usize>,
    /// Whether the request ends with the end of the connection, once that is known.
    is_last: Option<bool>,
    opening: bool,
    accepted: bool,
    end: Option<End<'a>>,
    /// Whether `recv` has already reported the end of the connection by returning `None`.
    end_reported: bool,
    answer_headers: HeaderMap,
    out: Vec<u8>,
    /// The first capacity of `out`: most responses are about as long as their requests.
    expected: usize,
}

impl<'a> WebSocket<'a> {
    /// Reads a request that a proxy made for a connection. It does not check that the proxy made it: use a
    /// [`Verifier`](crate::Verifier) for that.
    pub fn read<B: AsRef<[u8]>>(request: &'a Request<B>) -> Result<Self, NotWebSocket> {
        if request.method() != Method::POST {
            return Err(NotWebSocket::NotPost);
        }
        Self::from_parts(request.headers(), request.body().as_ref())
    }

    /// Whether a request has the method and the content type of WebSocket-over-HTTP. It may still be invalid
    /// otherwise.
    pub fn is_claimed_by<B>(request: &Request<B>) -> bool {
        request.method() == Method::POST && is_events(request.headers())
    }

    /// Like [`read`](Self::read), from the headers and the body of a `POST` request.
    pub fn from_parts(headers: &'a HeaderMap, body: &'a [u8]) -> Result<Self, NotWebSocket> {
        if !is_events(headers) {
            return Err(NotWebSocket::ContentType);
        }

        let id = headers.get(&CONNECTION_ID).and_then(|id| id.to_str().ok()).filter(|id| !id.is_empty());
        let id = id.ok_or(NotWebSocket::NoConnectionId)?;

        let mut events = Events::decode(body)?;
        let opening = events.clone().next() == Some(Event::Open);
        if opening {
            events.next();
        }

        Ok(Self {
            headers,
            id,
            prefix: "",
            events,
            next: None,
            taken: 0,
            content_accepted: None,
            is_last: None,
            opening,
            accepted: false,
            end: None,
            end_reported: false,
            answer_headers: HeaderMap::new(),
            out: Vec::new(),
            expected: body.len() + body.len() / 8,
        })
    }

    /// Puts `prefix` before the name of every channel. All parts of an application use the same prefix, `GRIP_PREFIX`.
    #[must_use]
    pub fn prefixed(mut self, prefix: &'a str) -> Self {
        self.prefix = prefix;
        self
    }

    /// The connection's id, which is the same in all of its requests.
    pub fn id(&self) -> &'a str {
        self.id
    }

    /// Whether this is the first request of the connection. [`accept`](Self::accept) it, or the client is refused.
    pub fn is_opening(&self) -> bool {
        self.opening
    }

    /// Accepts the connection. Does nothing if this is not the first request.
    ///
    /// Without it, the client is refused with 403. To refuse with another status, answer with a response of your own
    /// in place of [`to_response`](Self::to_response): the client receives it as the response to its handshake.
    pub fn accept(&mut self) {
        if self.opening && !self.accepted {
            self.accepted = true;
            // OPEN must be the first event, even if messages have been sent before this call.
            let sent = std::mem::take(&mut self.out);
            Event::Open.encode(&mut self.out);
            self.out.extend_from_slice(&sent);
        }
    }

    /// The subprotocols that the client offers, in its order of preference.
    pub fn protocols(&self) -> impl Iterator<Item = &'a str> {
        let offers = self.headers.get_all("sec-websocket-protocol").iter();
        offers.filter_map(|offer| offer.to_str().ok()).flat_map(|offer| offer.split(',')).map(str::trim)
    }

    /// Accepts the connection with a subprotocol, one of [`protocols`](Self::protocols).
    pub fn accept_protocol(&mut self, protocol: &str) -> Result<(), InvalidHeader> {
        self.set_header("sec-websocket-protocol", protocol)?;
        self.accept();
        Ok(())
    }

    /// Sets a header of the response. In the first request of a connection, the client receives it with the handshake.
    pub fn set_header(&mut self, name: &str, value: &str) -> Result<(), InvalidHeader> {
        let name = HeaderName::try_from(name).map_err(|_| InvalidHeader)?;
        let value = HeaderValue::try_from(value).map_err(|_| InvalidHeader)?;
        self.answer_headers.try_insert(name, value).map(|_| ()).map_err(|_| InvalidHeader)
    }

    /// The value that an earlier request of this connection stored with [`set_meta`](Self::set_meta).
    ///
    /// A client cannot set it: the proxy removes such headers from the client's handshake.
    pub fn meta(&self, name: &str) -> Option<&'a str> {
        self.headers.get(format!("meta-{name}"))?.to_str().ok()
    }

    /// Stores a value with the connection. The proxy sends it with every later request. An empty value deletes it.
    ///
    /// ```
    /// # let request = http::Request::post("/").header("Content-Type", "application/websocket-events")
    /// #     .header("Connection-Id", "1").header("Meta-User", "ann").body(b"TEXT 2\r\nhi\r\n".to_vec()).unwrap();
    /// let mut ws = grip::WebSocket::read(&request)?;
    /// assert_eq!(ws.meta("user"), Some("ann")); // stored when the connection was opened
    /// ws.set_meta("room", "7").expect("a plain word fits into a header");
    /// # assert_eq!(ws.to_response().headers()["set-meta-room"], "7");
    /// # Ok::<_, grip::NotWebSocket>(())
    /// ```
    pub fn set_meta(&mut self, name: &str, value: &str) -> Result<(), InvalidHeader> {
        self.set_header(&format!("set-meta-{name}"), value)
    }

    /// Makes the proxy send an empty request whenever the connection was idle for this many seconds. Pushpin waits at
    /// least 20.
    pub fn set_keep_alive_interval(&mut self, seconds: u32) {
        self.answer_headers.insert("keep-alive-interval", seconds.into());
    }

    /// Whether [`recv`](Self::recv) has something new: a message, or the end of the connection, which it reports once.
    pub fn can_recv(&mut self) -> bool {
        self.advance();
        self.next.is_some() || (self.end.is_some() && !self.end_reported)
    }

    /// The next message, or `None` if the request has no more messages or the connection has ended.
    /// [`end`](Self::end) tells the two apart.
    pub fn recv(&mut self) -> Option<Message<'a>> {
        self.advance();
        self.end_reported |= self.next.is_none() && self.end.is_some();
        self.next.take()
    }

    /// How the connection ended, according to the events read so far. `None` while it is open.
    pub fn end(&self) -> Option<End<'a>> {
        self.end
    }

    /// Sends a message to the client. A message after the end of the connection is discarded.
    pub fn send<'m>(&mut self, message: impl Into<Message<'m>>) {
        if self.end.is_none() {
            if self.out.capacity() == 0 {
                self.out.reserve(self.expected);
            }
            match message.into() {
                Message::Text(text) => event::put(&mut self.out, b"TEXT", b"m:", text.as_bytes()),
                Message::Binary(bytes) => event::put(&mut self.out, b"BINARY", b"m:", bytes),
            }
        }
    }

    /// Sends a binary message to the client.
    pub fn send_binary(&mut self, bytes: &[u8]) {
        self.send(bytes);
    }

    /// Sends a ping. The client's pong needs no handling. A payload is cut to 125 bytes, the most that a ping carries.
    pub fn ping(&mut self, payload: &[u8]) {
        if self.end.is_none() {
            event::put(&mut self.out, b"PING", b"", &payload[..payload.len().min(PING_BYTES)]);
        }
    }

    /// Closes the connection. Does nothing if the connection has already ended: a client's close has been answered with
    /// the client's own code.
    pub fn close(&mut self, code: u16, reason: &str) -> Result<(), InvalidClose> {
        let close = Close::new(code, reason)?;
        if self.end.is_none() {
            event::put(&mut self.out, b"CLOSE", b"", &close.content());
            (self.end, self.end_reported) = (Some(End::ByUs), true);
        }
        Ok(())
    }

    /// Subscribes the client to a channel: from now on the proxy sends it every item that is published there.
    pub fn subscribe(&mut self, channel: &str) -> Result<(), ControlTooLarge> {
        let channel = format!("{}{channel}", self.prefix);
        self.control(&Control::Subscribe { channel: &channel, filters: &[] })
    }

    /// Ends the subscription of the client to a channel.
    pub fn unsubscribe(&mut self, channel: &str) -> Result<(), ControlTooLarge> {
        let channel = format!("{}{channel}", self.prefix);
        self.control(&Control::Unsubscribe { channel: &channel })
    }

    /// Sends a control message to the proxy. The names of channels in it are sent verbatim, without the prefix.
    pub fn control(&mut self, control: &Control<'_>) -> Result<(), ControlTooLarge> {
        let json = serde_json::to_vec(control).unwrap_or_default();
        let bytes = b"c:".len() + json.len();
        if bytes > CONTROL_BYTES {
            return Err(ControlTooLarge(bytes));
        }

        if self.end.is_none() {
            event::put(&mut self.out, b"TEXT", b"c:", &json);
        }
        Ok(())
    }

    /// The number of bytes that may still be added to the response before it exceeds [`ANSWER_BYTES`].
    pub fn room(&self) -> usize {
        ANSWER_BYTES.saturating_sub(self.out.len())
    }

    /// Builds the response to the request.
    pub fn to_response(mut self) -> Response<Vec<u8>> {
        // Replies to the pings and closes among the messages that were not read, unless they come again.
        while self.end.is_none() && self.recv().is_some() {}

        if self.opening && !self.accepted {
            return plain(StatusCode::FORBIDDEN, "The connection was not accepted\n");
        }
        if self.end == Some(End::Disconnected) {
            self.out.clear();
        }

        let mut response = Response::new(self.out);
        let headers = response.headers_mut();
        *headers = self.answer_headers;
        headers.insert(CONTENT_TYPE_HEADER, HeaderValue::from_static(CONTENT_TYPE));
        if let Some(bytes) = self.content_accepted {
            headers.insert("content-bytes-accepted", bytes.into());
        }
        if self.opening {
            headers.insert("sec-websocket-extensions", HeaderValue::from_static("grip"));
        }
        response
    }

    /// Reads up to the next message or the end of the connection, and writes the protocol's own replies on the way.
    fn advance(&mut self) {
        while self.next.is_none() && self.end.is_none() && self.content_accepted.is_none() {
            let Some(event) = self.events.next() else { return };
            self.taken += event.content().len();
            match event {
                Event::Text(content) => match std::str::from_utf8(content) {
                    Ok(text) => self.next = Some(Message::Text(text)),
                    Err(_) => self.fail(1007),
                },
                Event::Binary(content) => self.next = Some(Message::Binary(content)),
                Event::Ping(payload) => event::put(&mut self.out, b"PONG", b"", payload),
                Event::Close(content) => match Close::parse(content) {
                    Ok(close) => {
                        event::put(&mut self.out, b"CLOSE", b"", content);
                        self.end = Some(End::Closed(close));
                    }
                    Err(error) => self.fail(error.answer()),
                },
                Event::Disconnect => self.end = Some(End::Disconnected),
                Event::Open | Event::Pong(_) => {}
            }
        }
    }

    /// Closes the connection because the client violated the protocol.
    fn fail(&mut self, code: u16) {
        event::put(&mut self.out, b"CLOSE", b"", &code.to_be_bytes());
        self.end = Some(End::Failed(code));
    }
}

/// Whether the content type is that of events. Unlike the proxy, this accepts parameters and capital letters.
fn is_events(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE_HEADER).and_then(|kind| kind.to_str().ok());
    kind.and_then(|kind| kind.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case(CONTENT_TYPE))
}

#[cfg(test)]
mod tests;
