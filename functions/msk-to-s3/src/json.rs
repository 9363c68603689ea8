//! A strict JSON reader that returns slices of the text it reads. It copies nothing, builds no tree, and leaves a
//! number in the characters in which it was written.
//!
//! Why not `serde_json`: it converts number tokens to numbers, and where it leaves a value as it stands
//! (`RawValue`) it reads the value twice. This reader accepts exactly the texts that `serde_json` accepts, up
//! to a nesting of 127 levels. A property test compares the two.
//!
//! Why not `sonic-rs` or `simd-json`: they do not know which key to expect. Finding the seven columns in 10,000 records
//! (2.3 MB) took 1.5 ms with [`Reader::skip_key`], 3.4 ms with `sonic-rs` 0.5.10 by its iterator, 2.7 ms by a struct
//! that names the columns at compile time, and 2.9 ms for `simd-json` 0.15.1 to build its tape, which keeps no number
//! tokens (2026-11-25, fastest of 200 turns, before [`Reader::unescaped`] read texts with commas too). Without an
//! expected key this reader took 3.2 ms.
//!
//! The caller drives the reader through the text. A [`Reader`] is a position in the text; each method reads one
//! thing at the position and moves past it:
//!
//! ```text
//! reader.object()?;                          // moves past `{`
//! while let Some(key) = reader.key()? {      // moves past `"id":`, or past `}` and returns None
//!     let value = reader.typed_value()?;     // moves past the value
//! }
//! reader.end()?;                             // only white space is left
//! ```
//!
//! Members and elements are separated by commas. Whether one is due depends on a single bit, `at_first`: it is set by
//! an opening bracket and cleared by everything else.

#[cfg(test)]
mod tests;
mod text;

use crate::scan::{end_of_plain, end_of_unescaped, leading_digits};

pub(crate) use text::Text;

/// The deepest nesting that is read, as in `serde_json`. The reader recurses, so there has to be a limit.
const MAX_DEPTH: u8 = 127;

/// The powers of ten from 0 to 8.
const POWERS: [u64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// The text is not JSON, or its next value is not of the expected kind. The message contains only the position, because
/// the text may be confidential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid JSON at byte {at}: expected {expected}")]
pub(crate) struct InvalidJson {
    at: usize,
    expected: &'static str,
}

/// The kind of a value, which its first character decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Object,
    Array,
    String,
    Number,
    /// `true` or `false`.
    Literal,
    Null,
}

/// A value with its kind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Value<'t> {
    pub(crate) kind: Kind,
    /// A string's text between its quotes; every other value as it stands in the JSON.
    pub(crate) text: Text<'t>,
}

/// Reads JSON from its beginning to its end.
pub(crate) struct Reader<'t> {
    text: &'t str,
    at: usize,
    depth: u8,
    /// The reader has just passed an opening bracket: no comma precedes the next member or element.
    at_first: bool,
}

impl<'t> Reader<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        Self { text, at: 0, depth: 0, at_first: false }
    }

    /// The kind of the next value. Only white space is passed.
    pub(crate) fn kind(&mut self) -> Result<Kind, InvalidJson> {
        match self.peek() {
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b'"') => Ok(Kind::String),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(b't' | b'f') => Ok(Kind::Literal),
            Some(b'n') => Ok(Kind::Null),
            _ => Err(self.expected("a value")),
        }
    }

    /// Enters an object. Call [`Self::key`] until it returns `None`, and read the value after each key.
    pub(crate) fn object(&mut self) -> Result<(), InvalidJson> {
        self.open(b'{', "an object")
    }

    /// Passes the next key if it is written exactly as `token`, which includes the quotes and the colon. Otherwise
    /// nothing is read, and [`Self::key`] returns the key, if there is one.
    ///
    /// This is faster than [`Self::key`] where one key is likely: the key need not be scanned.
    pub(crate) fn skip_key(&mut self, token: &str) -> bool {
        let rest = self.rest();
        let key = if self.at_first { Some(rest) } else { rest.strip_prefix(b",") };
        let found = key.is_some_and(|key| key.starts_with(token.as_bytes()));

        if found {
            self.at += usize::from(!self.at_first) + token.len();
            self.at_first = false;
        }
        found
    }

    /// Passes `text` if it comes next, exactly as written. The text must open and close no object or array around the reader.
    pub(crate) fn skip(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text.as_bytes());
        self.at += if found { text.len() } else { 0 };
        found
    }

    /// The result of `read`. If it returns `None`, the reader does not move.
    pub(crate) fn attempt<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let start = self.at;
        let found = read(self);
        if found.is_none() {
            self.at = start;
        }
        found
    }

    /// The next value if it is a string without escapes, and whether it has a comma. Otherwise nothing is read.
    pub(crate) fn unescaped(&mut self) -> Option<(&'t str, bool)> {
        let text = self.rest().strip_prefix(b"\"")?;
        let (end, has_comma) = end_of_unescaped(text)?;

        let start = self.at + 1;
        self.at = start + end + 1;
        Some((&self.text[start..start + end], has_comma))
    }

    /// The next key of the object, or `None` at its end.
    pub(crate) fn key(&mut self) -> Result<Option<Text<'t>>, InvalidJson> {
        if !self.has_next(b'}')? {
            return Ok(None);
        }
        let key = self.string()?;
        self.take(b':', "a colon")?;
        Ok(Some(key))
    }

    /// Enters an array. Call [`Self::element`] until it returns `false`, and read the value after each call.
    pub(crate) fn array(&mut self) -> Result<(), InvalidJson> {
        self.open(b'[', "an array")
    }

    /// Whether the array has another element. At its end, passes the bracket.
    pub(crate) fn element(&mut self) -> Result<bool, InvalidJson> {
        self.has_next(b']')
    }

    /// The next value, which must be a string.
    pub(crate) fn string(&mut self) -> Result<Text<'t>, InvalidJson> {
        self.take(b'"', "a string")?;
        let start = self.at;
        let mut escaped = false;

        // Each round passes plain text up to a quote, a backslash or a control character.
        loop {
            let rest = self.rest();
            let Some(end) = end_of_plain(rest) else {
                self.at = self.text.len();
                return Err(self.expected("the end of a string"));
            };
            self.at += end;
            match rest[end] {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    self.escape()?;
                }
                _ => return Err(self.expected("an escape in the place of a control character")),
            }
        }

        let raw = &self.text[start..self.at];
        self.at += 1;
        Ok(Text::new(raw, escaped))
    }

    /// The next value if it is a string that should be base64. Control characters, which neither JSON nor base64 allows,
    /// are left to the decoder: a pass less over most of the event. Otherwise nothing is read.
    pub(crate) fn base64(&mut self) -> Option<Text<'t>> {
        let text = self.rest().strip_prefix(b"\"")?;
        let end = memchr::memchr2(b'"', b'\\', text).filter(|end| text[*end] == b'"')?;

        let start = self.at + 1;
        self.at = start + end + 1;
        Some(Text::new(&self.text[start..start + end], false))
    }

    /// The next value if it is a whole number between 0 and `u64::MAX`; `None` for every other value, which is passed.
    pub(crate) fn unsigned(&mut self) -> Result<Option<u64>, InvalidJson> {
        self.kind()?;
        if let Some((number, length)) = plain_unsigned(self.rest()) {
            self.at += length;
            return Ok(Some(number));
        }
        Ok(self.value()?.parse().ok())
    }

    /// The next value with its kind.
    pub(crate) fn typed_value(&mut self) -> Result<Value<'t>, InvalidJson> {
        let kind = self.kind()?;
        let text = match kind {
            Kind::String => self.string()?,
            _ => Text::new(self.value_of(kind)?, false),
        };
        Ok(Value { kind, text })
    }

    /// The next value as it stands in the text, a string with its quotes.
    pub(crate) fn value(&mut self) -> Result<&'t str, InvalidJson> {
        let kind = self.kind()?;
        self.value_of(kind)
    }

    /// The value of this kind at the position.
    fn value_of(&mut self, kind: Kind) -> Result<&'t str, InvalidJson> {
        let start = self.at;
        self.skip_value(kind)?;
        Ok(&self.text[start..self.at])
    }

    /// Checks that nothing but white space is left.
    pub(crate) fn end(&mut self) -> Result<(), InvalidJson> {
        if self.peek().is_none() { Ok(()) } else { Err(self.expected("the end of the text")) }
    }

    fn skip_value(&mut self, kind: Kind) -> Result<(), InvalidJson> {
        match kind {
            Kind::Object => {
                self.object()?;
                while self.key()?.is_some() {
                    let kind = self.kind()?;
                    self.skip_value(kind)?;
                }
                Ok(())
            }
            Kind::Array => {
                self.array()?;
                while self.element()? {
                    let kind = self.kind()?;
                    self.skip_value(kind)?;
                }
                Ok(())
            }
            Kind::String => self.string().map(|_| ()),
            Kind::Number => self.skip_number(),
            Kind::Literal if self.rest().starts_with(b"t") => self.skip_word("true"),
            Kind::Literal => self.skip_word("false"),
            Kind::Null => self.skip_word("null"),
        }
    }

    fn skip_word(&mut self, word: &str) -> Result<(), InvalidJson> {
        if !self.rest().starts_with(word.as_bytes()) {
            return Err(self.expected("true, false or null"));
        }
        self.at += word.len();
        Ok(())
    }

    fn skip_number(&mut self) -> Result<(), InvalidJson> {
        self.at += usize::from(self.rest().first() == Some(&b'-'));

        // A leading zero stands alone.
        if self.rest().first() == Some(&b'0') {
            self.at += 1;
        } else {
            self.skip_digits()?;
        }

        if self.rest().first() == Some(&b'.') {
            self.at += 1;
            self.skip_digits()?;
        }

        if let Some(b'e' | b'E') = self.rest().first() {
            self.at += 1;
            self.at += usize::from(matches!(self.rest().first(), Some(b'+' | b'-')));
            self.skip_digits()?;
        }
        Ok(())
    }

    /// Passes one digit or more.
    fn skip_digits(&mut self) -> Result<(), InvalidJson> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.text.as_bytes().get(self.at) {
            self.at += 1;
        }
        if self.at == start { Err(self.expected("a digit")) } else { Ok(()) }
    }

    /// Passes a backslash and what belongs to it.
    fn escape(&mut self) -> Result<(), InvalidJson> {
        let length = match self.rest() {
            [_, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 2,
            [_, b'u', a, b, c, d, ..] if [a, b, c, d].iter().all(|hex| hex.is_ascii_hexdigit()) => 6,
            _ => return Err(self.expected("a valid escape")),
        };
        self.at += length;
        Ok(())
    }

    fn open(&mut self, bracket: u8, expected: &'static str) -> Result<(), InvalidJson> {
        self.take(bracket, expected)?;
        self.at_first = true;
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(self.expected("less nesting")) } else { Ok(()) }
    }

    /// Whether another member or element follows, whose comma is passed; otherwise the closing bracket is.
    fn has_next(&mut self, close: u8) -> Result<bool, InvalidJson> {
        let at_first = std::mem::replace(&mut self.at_first, false);
        if self.peek() == Some(close) {
            self.at += 1;
            self.depth -= 1;
            return Ok(false);
        }

        if !at_first {
            self.take(b',', "a comma")?;
        }
        Ok(true)
    }

    fn take(&mut self, byte: u8, expected: &'static str) -> Result<(), InvalidJson> {
        if self.peek() != Some(byte) {
            return Err(self.expected(expected));
        }
        self.at += 1;
        Ok(())
    }

    /// Passes white space and returns the byte after it.
    fn peek(&mut self) -> Option<u8> {
        loop {
            match self.text.as_bytes().get(self.at)? {
                b' ' | b'\n' | b'\r' | b'\t' => self.at += 1,
                byte => return Some(*byte),
            }
        }
    }

    fn rest(&self) -> &'t [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    fn expected(&self, expected: &'static str) -> InvalidJson {
        InvalidJson { at: self.at, expected }
    }
}

/// The number at the beginning of the text, and its length. `None` where reading it takes more than its digits: a leading
/// zero, a fraction, an exponent, more than 64 bits, the end of the text.
fn plain_unsigned(text: &[u8]) -> Option<(u64, usize)> {
    let (mut number, mut length) = (0_u64, 0);
    loop {
        let (digits, count) = leading_digits(&text[length..])?;
        number = number.checked_mul(POWERS[count])?.checked_add(digits)?;
        length += count;
        if count < 8 {
            break;
        }
    }

    let leading_zero = length > 1 && text[0] == b'0';
    let continues = matches!(text[length], b'.' | b'e' | b'E');
    (length > 0 && !leading_zero && !continues).then_some((number, length))
}
