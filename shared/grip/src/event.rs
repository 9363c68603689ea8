//! The WebSocket-over-HTTP encoding: a body is a sequence of events, each `NAME[ HEXSIZE]CRLF[content CRLF]`.
//!
//! This module encodes and decodes events. It does not interpret them: see [`WebSocket`](crate::WebSocket).

/// The media type of a body of events. A proxy compares it character by character: it accepts neither parameters
/// nor capital letters.
pub const CONTENT_TYPE: &str = "application/websocket-events";

/// One event of a connection.
///
/// The content is borrowed from the body and is exactly what the peer sent: a text may be invalid UTF-8, and a
/// close may be malformed ([`Close::parse`](crate::Close::parse) checks it).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// In a request, a client wants to connect. In a response, the function accepts the connection.
    Open,
    /// A text message.
    Text(&'a [u8]),
    /// A binary message.
    Binary(&'a [u8]),
    /// A ping, with its payload.
    Ping(&'a [u8]),
    /// A pong, with its payload.
    Pong(&'a [u8]),
    /// The closing handshake. The content is empty, or a code of two bytes and a reason.
    Close(&'a [u8]),
    /// In a request, the connection ended without a closing handshake. In a response, the proxy cuts it.
    Disconnect,
}

/// The body is not a valid sequence of WebSocket-over-HTTP events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body is not a sequence of WebSocket-over-HTTP events: {problem} at byte {at}")]
pub struct InvalidBody {
    /// The offset of the problem in the body, from 0.
    pub at: usize,
    /// What is wrong at that offset.
    pub problem: Problem,
}

/// What is wrong with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// An event's name is missing, or is not 1 to 32 capital letters, as in `TEXT`.
    #[error("an event name of 1 to 32 capital letters is missing")]
    Name,
    /// A size is missing, is not 1 to 16 hexadecimal digits after one space, or does not fit into memory.
    #[error("a size of 1 to 16 hexadecimal digits is missing")]
    Size,
    /// CR LF is missing after the name, the size or the content.
    #[error("a line end (CR LF) is missing")]
    LineEnd,
    /// The body has fewer bytes of content than the size announces.
    #[error("the content is shorter than its announced size")]
    Truncated,
}

/// The longest event name that is accepted. The protocol's longest is `DISCONNECT`.
const NAME_CHARS: usize = 32;

/// The most digits of a size that are accepted: enough for 64 bits.
const SIZE_DIGITS: usize = 16;

impl<'a> Event<'a> {
    /// The content, which is empty for an event that has none.
    pub(crate) fn content(&self) -> &'a [u8] {
        match *self {
            Self::Open | Self::Disconnect => b"",
            Self::Text(content)
            | Self::Binary(content)
            | Self::Ping(content)
            | Self::Pong(content)
            | Self::Close(content) => content,
        }
    }

    /// Appends the encoded event to `out`.
    ///
    /// ```
    /// let mut body = Vec::new();
    /// grip::Event::Open.encode(&mut body);
    /// grip::Event::Text(b"hello").encode(&mut body);
    /// assert_eq!(body, b"OPEN\r\nTEXT 5\r\nhello\r\n");
    /// ```
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Open => out.extend_from_slice(b"OPEN\r\n"),
            Self::Disconnect => out.extend_from_slice(b"DISCONNECT\r\n"),
            Self::Text(content) => put(out, b"TEXT", b"", content),
            Self::Binary(content) => put(out, b"BINARY", b"", content),
            Self::Ping(content) => put(out, b"PING", b"", content),
            Self::Pong(content) => put(out, b"PONG", b"", content),
            Self::Close(content) => put(out, b"CLOSE", b"", content),
        }
    }
}

/// Appends an event whose content is `prefix` followed by `content`.
///
/// It reserves exactly the bytes that it writes: a buffer with room for a whole answer is not moved when the last
/// event is added to it.
pub(crate) fn put(out: &mut Vec<u8>, name: &[u8], prefix: &[u8], content: &[u8]) {
    let size = prefix.len() + content.len();
    if size == 0 {
        out.extend_from_slice(name);
        out.extend_from_slice(b"\r\n");
        return;
    }

    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4) as usize;
    out.reserve(name.len() + 1 + digits + 2 + size + 2);

    out.extend_from_slice(name);
    out.push(b' ');
    for digit in (0..digits).rev() {
        out.push(b"0123456789abcdef"[(size >> (digit * 4)) & 0xf]);
    }
    out.extend_from_slice(b"\r\n");

    out.extend_from_slice(prefix);
    out.extend_from_slice(content);
    out.extend_from_slice(b"\r\n");
}

/// The events of a body in order, borrowed from it.
///
/// Events with an unknown name are skipped, as Pushpin does: a later version of the protocol may add some.
///
/// ```
/// use grip::{Event, Events};
///
/// let events: Vec<Event> = Events::decode(b"TEXT 5\r\nhello\r\nTEXT\r\nCLOSE\r\n")?.collect();
/// assert_eq!(events, [Event::Text(b"hello"), Event::Text(b""), Event::Close(b"")]);
/// # Ok::<_, grip::InvalidBody>(())
/// ```
#[derive(Debug, Clone)]
pub struct Events<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Events<'a> {
    /// Checks that a body is well-formed to its last byte, and returns its events.
    ///
    /// Decoding reads the body once and allocates nothing. Iterating reads the body a second time.
    pub fn decode(body: &'a [u8]) -> Result<Self, InvalidBody> {
        let mut at = 0;
        while at < body.len() {
            at = read_event(body, at)?.1;
        }

        Ok(Self { body, at: 0 })
    }
}

impl<'a> Iterator for Events<'a> {
    type Item = Event<'a>;

    fn next(&mut self) -> Option<Event<'a>> {
        while self.at < self.body.len() {
            let (event, next) = read_event(self.body, self.at).ok()?;
            self.at = next;
            if event.is_some() {
                return event;
            }
        }
        None
    }
}

/// Reads the event at offset `at`. Returns the event, or `None` if its name is unknown, and the offset of the next.
fn read_event(body: &[u8], at: usize) -> Result<(Option<Event<'_>>, usize), InvalidBody> {
    let rest = body.get(at..).unwrap_or_default();
    let letters = rest.iter().take(NAME_CHARS).take_while(|byte| byte.is_ascii_uppercase()).count();
    let (name, rest) = rest.split_at(letters);
    if name.is_empty() {
        return Err(InvalidBody { at, problem: Problem::Name });
    }

    let after_name = at + letters;
    let (content, next) = match rest {
        [b' ', rest @ ..] => read_content(rest, after_name + 1)?,
        [b'\r', b'\n', ..] => (&b""[..], after_name + 2),
        // The name goes on beyond its longest length.
        [byte, ..] if byte.is_ascii_uppercase() => return Err(InvalidBody { at, problem: Problem::Name }),
        _ => return Err(InvalidBody { at: after_name, problem: Problem::LineEnd }),
    };

    let event = match name {
        b"TEXT" => Some(Event::Text(content)),
        b"BINARY" => Some(Event::Binary(content)),
        b"PING" => Some(Event::Ping(content)),
        b"PONG" => Some(Event::Pong(content)),
        b"CLOSE" => Some(Event::Close(content)),
        b"OPEN" => Some(Event::Open),
        b"DISCONNECT" => Some(Event::Disconnect),
        _ => None,
    };
    Ok((event, next))
}

/// Reads `HEXSIZE CRLF content CRLF` from `rest`, which starts at offset `at` of the body. Returns the content and
/// the offset behind it.
fn read_content(rest: &[u8], at: usize) -> Result<(&[u8], usize), InvalidBody> {
    let fail = |at, problem| InvalidBody { at, problem };
    let digits = rest.iter().take(SIZE_DIGITS + 1).take_while(|byte| byte.is_ascii_hexdigit()).count();
    if !(1..=SIZE_DIGITS).contains(&digits) {
        return Err(fail(at, Problem::Size));
    }
    let (size, rest) = rest.split_at(digits);
    let size = hexadecimal(size).ok_or_else(|| fail(at, Problem::Size))?;

    let after_size = at + digits;
    let rest = rest.strip_prefix(b"\r\n").ok_or_else(|| fail(after_size, Problem::LineEnd))?;

    let start = after_size + 2;
    let (content, rest) = rest.split_at_checked(size).ok_or_else(|| fail(start, Problem::Truncated))?;
    let end = start + size;
    if !rest.starts_with(b"\r\n") {
        return Err(fail(end, Problem::LineEnd));
    }

    Ok((content, end + 2))
}

/// The value of hexadecimal digits, or `None` if it does not fit into a `usize`.
fn hexadecimal(digits: &[u8]) -> Option<usize> {
    digits.iter().try_fold(0_usize, |value, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        value.checked_mul(16)?.checked_add(usize::try_from(digit).ok()?)
    })
}

#[cfg(test)]
mod tests;
