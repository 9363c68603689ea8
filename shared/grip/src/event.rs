//! The WebSocket-over-HTTP encoding: `NAME[ HEXSIZE]CRLF[content CRLF]`, one after another.

/// The media type of a body of events. A proxy compares it letter by letter: no parameters, no capitals.
pub const CONTENT_TYPE: &str = "application/websocket-events";

/// One event of a connection. Contents are borrowed from the body and as the peer sent them: a text need
/// not be UTF-8, and a close need not be well-formed ([`Close::parse`](crate::Close::parse) tells).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A client wants a connection; in an answer, it gets it.
    Open,
    /// A text message.
    Text(&'a [u8]),
    /// A binary message.
    Binary(&'a [u8]),
    /// A ping, with its payload.
    Ping(&'a [u8]),
    /// A pong, with its payload.
    Pong(&'a [u8]),
    /// The closing handshake: nothing, or two bytes of code and a reason.
    Close(&'a [u8]),
    /// The connection is gone without a closing handshake; in an answer, it is cut.
    Disconnect,
}

/// Why a body is not a list of events, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body is not a list of WebSocket events: {problem} at byte {at}")]
pub struct InvalidBody {
    /// Offset in the body.
    pub at: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// What can be wrong with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// An event's name is 1 to 32 capital letters, as in `TEXT`.
    #[error("no event name in capital letters")]
    Name,
    /// A size is 1 to 16 hexadecimal digits after one blank, and fits in memory.
    #[error("no size in hexadecimal digits")]
    Size,
    /// A CRLF is missing: after the name, the size, or the content.
    #[error("no line end (CR LF)")]
    LineEnd,
    /// Fewer bytes follow than the size says.
    #[error("less content than announced")]
    Truncated,
}

const NAME_CHARS: usize = 32;
const SIZE_DIGITS: usize = 16;

impl Event<'_> {
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

/// Appends an event whose content is `prefix` and `content`. It takes the room that it needs and no more: what
/// was given room for a whole body is not moved for the last event of it.
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

/// The events of a body, in order, borrowed from it. Events with an unknown name are passed over, as a proxy
/// does: they are for a later version of the protocol.
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
    /// Takes a body that is well-formed to its last byte. It is read once to know that, and nothing is
    /// allocated; iterating reads it a second time.
    pub fn decode(body: &'a [u8]) -> Result<Self, InvalidBody> {
        let mut at = 0;
        while at < body.len() {
            at = step(body, at)?.1;
        }
        Ok(Self { body, at: 0 })
    }
}

impl<'a> Iterator for Events<'a> {
    type Item = Event<'a>;

    fn next(&mut self) -> Option<Event<'a>> {
        while self.at < self.body.len() {
            let (event, next) = step(self.body, self.at).ok()?;
            self.at = next;
            if event.is_some() {
                return event;
            }
        }
        None
    }
}

/// Reads the event at `at`: it (unless its name is unknown), and where the next one starts.
fn step(body: &[u8], at: usize) -> Result<(Option<Event<'_>>, usize), InvalidBody> {
    let fail = |at: usize, problem| InvalidBody { at, problem };
    let rest = body.get(at..).unwrap_or_default();
    let letters = rest.iter().take(NAME_CHARS).take_while(|byte| byte.is_ascii_uppercase()).count();
    let (name, rest) = rest.split_at(letters);
    if name.is_empty() {
        return Err(fail(at, Problem::Name));
    }
    let mut end = at + letters;
    let mut content: &[u8] = b"";
    let sized = match rest {
        [b' ', ..] => true,
        [b'\r', b'\n', ..] => false,
        [byte, ..] if byte.is_ascii_uppercase() => return Err(fail(at, Problem::Name)),
        _ => return Err(fail(end, Problem::LineEnd)),
    };
    if sized {
        let digits = rest.iter().skip(1).take(SIZE_DIGITS + 1).take_while(|byte| byte.is_ascii_hexdigit());
        let (digits, size) =
            digits.fold((0, Some(0_usize)), |(count, size), digit| (count + 1, hex(size, *digit)));
        let size = size.filter(|_| (1..=SIZE_DIGITS).contains(&digits));
        let size = size.ok_or_else(|| fail(end + 1, Problem::Size))?;
        end += 1 + digits;
        let rest = &rest[1 + digits..];
        let rest = rest.strip_prefix(b"\r\n").ok_or_else(|| fail(end, Problem::LineEnd))?;
        let rest = rest.split_at_checked(size).ok_or_else(|| fail(end + 2, Problem::Truncated))?;
        content = rest.0;
        end += 2 + size;
        if !rest.1.starts_with(b"\r\n") {
            return Err(fail(end, Problem::LineEnd));
        }
    }
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
    Ok((event, end + 2))
}

fn hex(size: Option<usize>, digit: u8) -> Option<usize> {
    let digit = char::from(digit).to_digit(16)?;
    size?.checked_mul(16)?.checked_add(usize::try_from(digit).ok()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(body: &[u8]) -> Vec<Event<'_>> {
        Events::decode(body).unwrap().collect()
    }

    #[test]
    fn every_event_is_read() {
        let body = b"OPEN\r\nTEXT A\r\n0123456789\r\nBINARY 00\r\n\r\nPING\r\nPONG 1\r\nx\r\nCLOSE 2\r\n\x03\xe8\r\n\
            FUTURE 3\r\n\r\n\r\r\nDISCONNECT\r\n";
        assert_eq!(
            all(body),
            [
                Event::Open,
                Event::Text(b"0123456789"),
                Event::Binary(b""),
                Event::Ping(b""),
                Event::Pong(b"x"),
                Event::Close(b"\x03\xe8"),
                Event::Disconnect,
            ]
        );
        assert_eq!(all(b""), []);
        assert_eq!(all(b"OPEN 0\r\n\r\nTEXT\r\n"), [Event::Open, Event::Text(b"")]);
        assert_eq!(all(b"OPEN 2\r\nno\r\nDISCONNECT 2\r\nno\r\n"), [Event::Open, Event::Disconnect]);
    }

    #[test]
    fn an_event_takes_no_more_room_than_it_has_bytes() {
        for size in [0, 1, 15, 16, 100, 70_000] {
            let content = vec![0; size];
            let mut body = Vec::new();
            Event::Text(&content).encode(&mut body);
            let mut out = Vec::with_capacity(body.len());
            let room = out.capacity();
            Event::Text(&content).encode(&mut out);
            assert_eq!(out.capacity(), room, "{size} bytes");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (body, at, problem) in [
            (&b"\r\n"[..], 0, Problem::Name),
            (b"text 1\r\nx\r\n", 0, Problem::Name),
            (b"TEXT 1\r\nx\r\n1", 11, Problem::Name),
            (&[b'A'; 33], 0, Problem::Name),
            (b"TEXT -7\r\n", 5, Problem::Size),
            (b"TEXT +7\r\n1234567\r\n", 5, Problem::Size),
            (b"TEXT 0x1\r\nx\r\n", 6, Problem::LineEnd),
            (b"TEXT \r\n", 5, Problem::Size),
            (b"TEXT  1\r\nx\r\n", 5, Problem::Size),
            (b"TEXT 10000000000000000\r\n", 5, Problem::Size),
            (b"TEXT 00000000000000001\r\nx\r\n", 5, Problem::Size),
            (b"TEXT ffffffffffffffff\r\n", 23, Problem::Truncated),
            (b"TEXT 1\nx\n", 6, Problem::LineEnd),
            (b"TEXT 1 \r\nx\r\n", 6, Problem::LineEnd),
            (b"TEXT 5\r\nhell", 8, Problem::Truncated),
            (b"TEXT 5\r\nhello", 13, Problem::LineEnd),
            (b"TEXT 5\r\nhello\n", 13, Problem::LineEnd),
            (b"TEXT", 4, Problem::LineEnd),
            (b"OPEN\n", 4, Problem::LineEnd),
        ] {
            let error = Events::decode(body).unwrap_err();
            assert_eq!(error, InvalidBody { at, problem }, "{}", body.escape_ascii());
        }
    }

    fn event() -> impl Strategy<Value = (u8, Vec<u8>)> {
        (0..7_u8, proptest::collection::vec(any::<u8>(), 0..300))
    }

    fn of((kind, content): &(u8, Vec<u8>)) -> Event<'_> {
        match kind {
            0 => Event::Open,
            1 => Event::Text(content),
            2 => Event::Binary(content),
            3 => Event::Ping(content),
            4 => Event::Pong(content),
            5 => Event::Close(content),
            _ => Event::Disconnect,
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(events in proptest::collection::vec(event(), 0..20)) {
            let events: Vec<_> = events.iter().map(of).collect();
            let mut body = Vec::new();
            for event in &events {
                event.encode(&mut body);
            }
            prop_assert_eq!(all(&body), events);
        }

        #[test]
        fn a_cut_body_is_refused_or_has_fewer_events(events in proptest::collection::vec(event(), 1..5), cut in 1..400_usize) {
            let mut body = Vec::new();
            for event in &events {
                of(event).encode(&mut body);
            }
            body.truncate(body.len().saturating_sub(cut));
            if let Ok(decoded) = Events::decode(&body) {
                prop_assert!(decoded.count() < events.len());
            }
        }

        #[test]
        fn no_bytes_make_it_panic_or_loop(body in proptest::collection::vec(any::<u8>(), 0..500)) {
            if let Ok(events) = Events::decode(&body) {
                prop_assert!(events.count() <= body.len());
            }
        }

        #[test]
        fn no_near_miss_makes_it_panic_or_loop(body in "((OPEN|TEXT|BINARY|PING|X)( ?-?[0-9a-fA-F]{0,17})(\r\n|\n|\r)(.{0,6}\r?\n)?){0,8}") {
            if let Ok(events) = Events::decode(body.as_bytes()) {
                prop_assert!(events.count() <= body.len());
            }
        }
    }
}
