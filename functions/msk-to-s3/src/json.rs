//! A strict JSON reader that hands out pieces of the text it reads: nothing is copied, no tree is built, and a
//! number stays the characters it was written with.
//!
//! Why not `serde_json` alone: it makes numbers of number tokens, and where it leaves values as they stand it reads
//! them twice. What it accepts, this accepts, and no more, deep nesting apart: a property test holds both together.

#[cfg(test)]
mod tests;
mod text;

use crate::scan::end_of_plain;

pub(crate) use text::Text;

/// Nesting beyond which text is refused, as `serde_json` does: the reader recurses.
const DEPTH: u8 = 127;

/// The text is not JSON, or not of the kind asked for. Where, but not what: the text may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no valid JSON at byte {at}: {expected} is expected")]
pub(crate) struct Invalid {
    at: usize,
    expected: &'static str,
}

/// What a value is, by its first character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Object,
    Array,
    String,
    Number,
    Literal,
    Null,
}

/// Reads JSON from its beginning to its end.
pub(crate) struct Reader<'t> {
    text: &'t str,
    at: usize,
    depth: u8,
}

impl<'t> Reader<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    /// What comes next.
    pub(crate) fn kind(&mut self) -> Result<Kind, Invalid> {
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

    /// Enters an object: call [`Self::key`] until it is out of keys, and read the value after each.
    pub(crate) fn object(&mut self) -> Result<Members, Invalid> {
        self.open(b'{', "an object")
    }

    /// Whether the object's next member is of this key, with its quotes and its colon: then it is the value that comes
    /// next. Otherwise nothing is read, and [`Self::key`] says what there is. Quicker than that where one key is to
    /// be expected: there is nothing to find out about it.
    pub(crate) fn is_key(&mut self, members: &mut Members, token: &str) -> bool {
        let comma = usize::from(!members.first);
        let rest = self.rest();
        let found =
            (members.first || rest.first() == Some(&b',')) && rest[comma..].starts_with(token.as_bytes());
        if found {
            self.at += comma + token.len();
            members.first = false;
        }
        found
    }

    /// The next key of the object.
    pub(crate) fn key(&mut self, members: &mut Members) -> Result<Option<Text<'t>>, Invalid> {
        if !self.another(members, b'}')? {
            return Ok(None);
        }
        let key = self.string()?;
        self.take(b':', "a colon")?;
        Ok(Some(key))
    }

    /// Enters an array: call [`Self::element`] until it is out of elements, and read each.
    pub(crate) fn array(&mut self) -> Result<Members, Invalid> {
        self.open(b'[', "an array")
    }

    /// Whether the array has another element.
    pub(crate) fn element(&mut self, members: &mut Members) -> Result<bool, Invalid> {
        self.another(members, b']')
    }

    /// The string that comes next.
    pub(crate) fn string(&mut self) -> Result<Text<'t>, Invalid> {
        self.take(b'"', "a string")?;
        let start = self.at;
        let mut escaped = false;
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
                _ => return Err(self.expected("no bare control character")),
            }
        }
        let raw = &self.text[start..self.at];
        self.at += 1;
        Ok(Text { raw, escaped })
    }

    /// The next value, if it is a whole number that is not negative and fits.
    pub(crate) fn unsigned(&mut self) -> Result<Option<u64>, Invalid> {
        /// As many digits fit whatever they are.
        const DIGITS: usize = 19;
        self.kind()?;
        let (mut number, mut length) = (0_u64, 0);
        let rest = self.rest();
        while let Some(digit @ b'0'..=b'9') = rest.get(length)
            && length < DIGITS
        {
            number = number * 10 + u64::from(digit - b'0');
            length += 1;
        }
        // One digit at least, no zero before others, and nothing that belongs to the number follows.
        let zeros = length > 1 && rest[0] == b'0';
        if length == 0 || zeros || matches!(rest.get(length), Some(b'0'..=b'9' | b'.' | b'e' | b'E')) {
            return Ok(self.value()?.parse().ok());
        }
        self.at += length;
        Ok(Some(number))
    }

    /// The next value as it stands in the text, whatever it is.
    pub(crate) fn value(&mut self) -> Result<&'t str, Invalid> {
        self.kind()?;
        let start = self.at;
        self.skip()?;
        Ok(&self.text[start..self.at])
    }

    /// How far the reader is, in bytes: at a value's first, once its kind was asked for.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// Nothing but white space is left.
    pub(crate) fn end(&mut self) -> Result<(), Invalid> {
        if self.peek().is_none() { Ok(()) } else { Err(self.expected("the end")) }
    }

    fn skip(&mut self) -> Result<(), Invalid> {
        match self.kind()? {
            Kind::Object => {
                let mut members = self.object()?;
                while self.key(&mut members)?.is_some() {
                    self.skip()?;
                }
                Ok(())
            }
            Kind::Array => {
                let mut members = self.array()?;
                while self.element(&mut members)? {
                    self.skip()?;
                }
                Ok(())
            }
            Kind::String => self.string().map(|_| ()),
            Kind::Number => self.number(),
            Kind::Literal if self.rest().starts_with(b"t") => self.word("true"),
            Kind::Literal => self.word("false"),
            Kind::Null => self.word("null"),
        }
    }

    fn word(&mut self, word: &str) -> Result<(), Invalid> {
        if !self.rest().starts_with(word.as_bytes()) {
            return Err(self.expected("true, false or null"));
        }
        self.at += word.len();
        Ok(())
    }

    fn number(&mut self) -> Result<(), Invalid> {
        self.at += usize::from(self.rest().first() == Some(&b'-'));
        if self.rest().first() == Some(&b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.rest().first() == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.rest().first() {
            self.at += 1;
            self.at += usize::from(matches!(self.rest().first(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Invalid> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.text.as_bytes().get(self.at) {
            self.at += 1;
        }
        if self.at == start { Err(self.expected("a digit")) } else { Ok(()) }
    }

    fn escape(&mut self) -> Result<(), Invalid> {
        let length = match self.rest() {
            [_, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 2,
            [_, b'u', a, b, c, d, ..] if [a, b, c, d].iter().all(|hex| hex.is_ascii_hexdigit()) => 6,
            _ => return Err(self.expected("an escape")),
        };
        self.at += length;
        Ok(())
    }

    fn open(&mut self, bracket: u8, what: &'static str) -> Result<Members, Invalid> {
        self.take(bracket, what)?;
        self.depth += 1;
        if self.depth > DEPTH { Err(self.expected("less nesting")) } else { Ok(Members { first: true }) }
    }

    fn another(&mut self, members: &mut Members, close: u8) -> Result<bool, Invalid> {
        if self.peek() == Some(close) {
            self.at += 1;
            self.depth -= 1;
            return Ok(false);
        }
        if !std::mem::replace(&mut members.first, false) {
            self.take(b',', "a comma")?;
        }
        Ok(true)
    }

    fn take(&mut self, byte: u8, what: &'static str) -> Result<(), Invalid> {
        if self.peek() != Some(byte) {
            return Err(self.expected(what));
        }
        self.at += 1;
        Ok(())
    }

    /// The next byte that is not white space.
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

    fn expected(&self, expected: &'static str) -> Invalid {
        Invalid { at: self.at, expected }
    }
}

/// How far the reader is in an object or an array.
pub(crate) struct Members {
    first: bool,
}
