//! One request of a connection, and the answer to it.

use http::header::{CONTENT_TYPE as CONTENT_TYPE_HEADER, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};

use crate::close::{Close, InvalidClose};
use crate::control::{CONTROL_BYTES, Control};
use crate::event::{self, CONTENT_TYPE, Event, Events, InvalidBody};

/// Largest answer that a proxy takes, in bytes; it cuts the connection at more.
pub const ANSWER_BYTES: usize = 1_000_000;

static CONNECTION_ID: HeaderName = HeaderName::from_static("connection-id");

/// A message of the client, borrowed from the request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// Text, known to be UTF-8.
    Text(&'a str),
    /// Bytes.
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

/// Why a request is not one of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotWebSocket {
    /// Events come by `POST`.
    #[error("the request is not a POST")]
    NotPost,
    /// And as `application/websocket-events`.
    #[error("the request's content type is not {CONTENT_TYPE}")]
    ContentType,
    /// With the connection's id.
    #[error("the request has no Connection-Id")]
    NoConnectionId,
    /// And well-formed.
    #[error("{0}")]
    Body(#[from] InvalidBody),
}

impl NotWebSocket {
    /// The customary answer: 400 `Not a WebSocket-over-HTTP request`, as plain text.
    pub fn to_response(self) -> Response<Vec<u8>> {
        crate::plain(StatusCode::BAD_REQUEST, "Not a WebSocket-over-HTTP request\n")
    }
}

/// A control message that cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the control message has {0} bytes; the proxy takes at most {CONTROL_BYTES}")]
pub struct ControlTooLarge(pub usize);

/// A header's name or value that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a header's name or value has a character that HTTP does not allow there")]
pub struct InvalidHeader;

/// One request of a connection: the client's messages in, the function's answer out.
///
/// What the protocol asks for happens by itself, in the order of the events: a ping is answered by a pong with
/// its payload, a close by a close with its code and reason, a text that is not UTF-8 by a close with 1007, an
/// impossible close code by a close with 1002. What is not read by the time of
/// [`to_response`](Self::to_response) is dropped, but pings and closes in it are answered all the same.
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
/// A client's text cannot become a control message: every message is sent behind `m:`, which the proxy takes
/// off, and only [`control`](Self::control) and its shorthands write the `c:` that it obeys. For this reason
/// the prefix cannot be configured.
#[derive(Debug)]
pub struct WebSocket<'a> {
    headers: &'a HeaderMap,
    id: &'a str,
    prefix: &'a str,
    events: Events<'a>,
    next: Option<Message<'a>>,
    opening: bool,
    accepted: bool,
    end: Option<End<'a>>,
    /// Whether the reader knows of the end.
    told: bool,
    answer_headers: HeaderMap,
    out: Vec<u8>,
    expected: usize,
}

/// How a connection ended, as [`WebSocket::end`] tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End<'a> {
    /// The client closed; it has its answer.
    Closed(Close<'a>),
    /// The client broke the protocol and was told so with this code.
    Failed(u16),
    /// The connection is gone: nobody reads what is sent.
    Disconnected,
    /// The function closed.
    ByUs,
}

impl<'a> WebSocket<'a> {
    /// Takes a request that a proxy made for a connection. Whether it really was the proxy is for a
    /// [`Verifier`](crate::Verifier) to say.
    pub fn read<B: AsRef<[u8]>>(request: &'a Request<B>) -> Result<Self, NotWebSocket> {
        if request.method() != Method::POST {
            return Err(NotWebSocket::NotPost);
        }
        Self::from_parts(request.headers(), request.body().as_ref())
    }

    /// Whether a request says that it is one of a connection, however wrong it may be otherwise.
    pub fn is_claimed_by<B>(request: &Request<B>) -> bool {
        request.method() == Method::POST && is_events(request.headers())
    }

    /// As [`read`](Self::read), of a `POST` request's headers and body.
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
            opening,
            accepted: false,
            end: None,
            told: false,
            answer_headers: HeaderMap::new(),
            out: Vec::new(),
            expected: body.len() + body.len() / 8,
        })
    }

    /// Puts `prefix` before every channel's name, as `GRIP_PREFIX` asks of all parts of one application.
    #[must_use]
    pub fn prefixed(mut self, prefix: &'a str) -> Self {
        self.prefix = prefix;
        self
    }

    /// The connection's id: the same in all of its requests.
    pub fn id(&self) -> &'a str {
        self.id
    }

    /// Whether this is the connection's first request, which wants [`accept`](Self::accept).
    pub fn is_opening(&self) -> bool {
        self.opening
    }

    /// Lets the client in. Not to accept is to refuse, with 403; to refuse in another way, answer with another
    /// response than this one's: the client gets it as the handshake's.
    pub fn accept(&mut self) {
        if self.opening && !self.accepted {
            self.accepted = true;
            // Before anything that was sent already.
            let sent = std::mem::take(&mut self.out);
            Event::Open.encode(&mut self.out);
            self.out.extend_from_slice(&sent);
        }
    }

    /// The subprotocols that the client offers, best first.
    pub fn protocols(&self) -> impl Iterator<Item = &'a str> {
        let offers = self.headers.get_all("sec-websocket-protocol").iter();
        offers.filter_map(|offer| offer.to_str().ok()).flat_map(|offer| offer.split(',')).map(str::trim)
    }

    /// Lets the client in, with the subprotocol that it is to speak.
    pub fn accept_protocol(&mut self, protocol: &str) -> Result<(), InvalidHeader> {
        self.set_header("sec-websocket-protocol", protocol)?;
        self.accept();
        Ok(())
    }

    /// Adds a header to the answer; one to an opening reaches the client with the handshake.
    pub fn set_header(&mut self, name: &str, value: &str) -> Result<(), InvalidHeader> {
        let name = HeaderName::try_from(name).map_err(|_| InvalidHeader)?;
        let value = HeaderValue::try_from(value).map_err(|_| InvalidHeader)?;
        self.answer_headers.try_insert(name, value).map(|_| ()).map_err(|_| InvalidHeader)
    }

    /// What the function noted with [`set_meta`](Self::set_meta) in an earlier request of this connection.
    /// A client cannot write it: the proxy drops what it sends by that name.
    pub fn meta(&self, name: &str) -> Option<&'a str> {
        self.headers.get(format!("meta-{name}"))?.to_str().ok()
    }

    /// Notes a value with the connection; the proxy brings it back in every later request. An empty one
    /// deletes it.
    pub fn set_meta(&mut self, name: &str, value: &str) -> Result<(), InvalidHeader> {
        self.set_header(&format!("set-meta-{name}"), value)
    }

    /// Asks the proxy for an empty request whenever nothing happened for so long, in seconds. Pushpin takes
    /// fewer than 20 for 20.
    pub fn set_keep_alive_interval(&mut self, seconds: u32) {
        self.answer_headers.insert("keep-alive-interval", seconds.into());
    }

    /// Whether [`recv`](Self::recv) has something to tell: a message, or (once) that there will be no more.
    pub fn can_recv(&mut self) -> bool {
        self.advance();
        self.next.is_some() || (self.end.is_some() && !self.told)
    }

    /// The next message; `None` when this request holds no more, or the connection has ended
    /// ([`end`](Self::end) tells).
    pub fn recv(&mut self) -> Option<Message<'a>> {
        self.advance();
        self.told |= self.next.is_none() && self.end.is_some();
        self.next.take()
    }

    /// How the connection ended, as far as was read; `None` while it lives.
    pub fn end(&self) -> Option<End<'a>> {
        self.end
    }

    /// Sends a message to the client. After the end of the connection it is dropped, as the proxy would.
    pub fn send<'m>(&mut self, message: impl Into<Message<'m>>) {
        if self.end.is_none() {
            if self.out.capacity() == 0 {
                // Most answers are about as long as what they answer: grow once.
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

    /// Sends a ping; the client's pong needs no reading. Longer payloads than 125 bytes are cut there.
    pub fn ping(&mut self, payload: &[u8]) {
        if self.end.is_none() {
            event::put(&mut self.out, b"PING", b"", &payload[..payload.len().min(125)]);
        }
    }

    /// Closes the connection. Where it has ended already this does nothing: the client's own close was
    /// answered with its own code.
    pub fn close(&mut self, code: u16, reason: &str) -> Result<(), InvalidClose> {
        let close = Close::new(code, reason)?;
        if self.end.is_none() {
            event::put(&mut self.out, b"CLOSE", b"", &close.content());
            (self.end, self.told) = (Some(End::ByUs), true);
        }
        Ok(())
    }

    /// Subscribes the client to a channel: what is published to it, the proxy sends on by itself.
    pub fn subscribe(&mut self, channel: &str) -> Result<(), ControlTooLarge> {
        let channel = format!("{}{channel}", self.prefix);
        self.control(&Control::Subscribe { channel: &channel, filters: &[] })
    }

    /// The opposite of [`subscribe`](Self::subscribe).
    pub fn unsubscribe(&mut self, channel: &str) -> Result<(), ControlTooLarge> {
        let channel = format!("{}{channel}", self.prefix);
        self.control(&Control::Unsubscribe { channel: &channel })
    }

    /// Tells the proxy something about the connection. Channels in it go out as they are, without the prefix.
    pub fn control(&mut self, control: &Control<'_>) -> Result<(), ControlTooLarge> {
        let json = serde_json::to_vec(control).unwrap_or_default();
        match json.len() + 2 {
            bytes if bytes > CONTROL_BYTES => return Err(ControlTooLarge(bytes)),
            _ if self.end.is_none() => event::put(&mut self.out, b"TEXT", b"c:", &json),
            _ => {}
        }
        Ok(())
    }

    /// How many bytes the answer may still grow before the proxy takes offence.
    pub fn room(&self) -> usize {
        ANSWER_BYTES.saturating_sub(self.out.len())
    }

    /// The answer to the request.
    pub fn to_response(mut self) -> Response<Vec<u8>> {
        while self.end.is_none() && self.recv().is_some() {}
        if self.opening && !self.accepted {
            return crate::plain(StatusCode::FORBIDDEN, "The connection was not accepted\n");
        }
        if self.end == Some(End::Disconnected) {
            self.out.clear();
        }
        let mut response = Response::new(self.out);
        let headers = response.headers_mut();
        *headers = self.answer_headers;
        headers.insert(CONTENT_TYPE_HEADER, HeaderValue::from_static(CONTENT_TYPE));
        if self.opening {
            headers.insert("sec-websocket-extensions", HeaderValue::from_static("grip"));
        }
        response
    }

    /// Reads up to the next message or the end, and answers what is in between.
    fn advance(&mut self) {
        while self.next.is_none() && self.end.is_none() {
            let Some(event) = self.events.next() else { return };
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

    fn fail(&mut self, code: u16) {
        event::put(&mut self.out, b"CLOSE", b"", &code.to_be_bytes());
        self.end = Some(End::Failed(code));
    }
}

fn is_events(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE_HEADER).and_then(|kind| kind.to_str().ok());
    kind.and_then(|kind| kind.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case(CONTENT_TYPE))
}

#[cfg(test)]
#[path = "websocket_tests.rs"]
mod tests;
