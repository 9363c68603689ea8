//! A strict JSON reader that hands out pieces of the text it reads: nothing is copied, no tree is built, and a
//! number stays the characters it was written with.
//!
//! Why not `serde_json` alone: it reads the same batch in three times the CPU time (`benches/kafka`), and it
//! makes numbers of number tokens. What it accepts, this accepts, and no more, deep nesting apart: a
//! property test holds both together.

use std::borrow::Cow;

use crate::scan::end_of_plain;

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

/// A string's text between its quotes, as it stands in the JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Text<'t> {
    raw: &'t str,
    escaped: bool,
}

impl<'t> Text<'t> {
    /// What a reader found at this place before.
    pub(crate) fn again(raw: &'t str, escaped: bool) -> Self {
        Self { raw, escaped }
    }

    /// Whether there is a backslash in it.
    pub(crate) fn escaped(self) -> bool {
        self.escaped
    }

    /// The text without escapes; `None` if it is not Unicode (half of a surrogate pair).
    pub(crate) fn unescape(self) -> Option<Cow<'t, str>> {
        if !self.escaped {
            return Some(Cow::Borrowed(self.raw));
        }
        let mut text = String::with_capacity(self.raw.len());
        unescape_into(self.raw, &mut text)?;
        Some(Cow::Owned(text))
    }
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
            let Some(plain) = end_of_plain(self.rest()) else {
                self.at = self.text.len();
                return Err(self.expected("the end of a string"));
            };
            self.at += plain;
            match self.rest().first() {
                Some(b'"') => break,
                Some(b'\\') => {
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
        let digits = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += digits;
        if digits == 0 { Err(self.expected("a digit")) } else { Ok(()) }
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
        while let Some(byte) = self.rest().first() {
            match byte {
                b' ' | b'\n' | b'\r' | b'\t' => self.at += 1,
                byte => return Some(*byte),
            }
        }
        None
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

fn unescape_into(raw: &str, text: &mut String) -> Option<()> {
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let escape = *rest.as_bytes().get(at + 1)?;
        rest = rest.get(at + 2..)?;
        text.push(match escape {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let (high, after) = unit(rest)?;
                let (character, after) = match high {
                    0xd800..0xdc00 => {
                        let (low, after) = unit(after.strip_prefix("\\u")?)?;
                        (char::decode_utf16([high, low]).next()?.ok()?, after)
                    }
                    unit => (char::from_u32(u32::from(unit))?, after),
                };
                rest = after;
                character
            }
            other => char::from(other),
        });
    }
    text.push_str(rest);
    Some(())
}

fn unit(text: &str) -> Option<(u16, &str)> {
    let (hex, rest) = text.split_at_checked(4)?;
    Some((u16::from_str_radix(hex, 16).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    fn accepts(text: &str) -> bool {
        let mut reader = Reader::new(text);
        reader.value().and_then(|_| reader.end()).is_ok()
    }

    fn text(json: &str) -> Option<String> {
        Some(Reader::new(json).string().ok()?.unescape()?.into_owned())
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for bad in [
            "",
            " ",
            "{",
            "[",
            "]",
            "tru",
            "nul",
            "01",
            "-",
            "1.",
            "1e",
            ".5",
            "+1",
            "[1,]",
            "[,1]",
            "{1:2}",
            r#"{"a"}"#,
            r#"{"a":1,}"#,
            r#"{"a":1 "b":2}"#,
            r#"""#,
            r#""\x""#,
            r#""\u12g4""#,
            "\"\n\"",
            "1 2",
            "'a'",
        ] {
            assert!(!accepts(bad), "{bad}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_and_not_a_stack_overflow() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(accepts(&nested(127)));
        assert!(!accepts(&nested(128)));
        assert!(!accepts(&"[".repeat(1_000_000)));
        assert!(!accepts(&r#"{"a":"#.repeat(1_000_000)));
    }

    #[test]
    fn values_come_as_they_were_written() {
        let mut reader = Reader::new(r#" {"n" : 1.500e+3 , "o":{"b" : [ ]},"s":"x" }"#);
        let mut members = reader.object().unwrap();
        let mut seen = Vec::new();
        while let Some(key) = reader.key(&mut members).unwrap() {
            seen.push((key.unescape().unwrap().into_owned(), reader.value().unwrap()));
        }
        assert_eq!(seen, [("n".into(), "1.500e+3"), ("o".into(), r#"{"b" : [ ]}"#), ("s".into(), r#""x""#)]);
    }

    #[test]
    fn half_a_surrogate_pair_is_no_text() {
        assert_eq!(text(r#""\ud83d\ude00\u00e9\/""#).as_deref(), Some("😀é/"));
        for half in [r#""\ud83d""#, r#""\ude00""#, r#""\ud83dx""#, r#""\ud83d\ud83d""#, r#""\ud83d\n""#] {
            assert_eq!(text(half), None, "{half}");
        }
    }

    /// Text that is JSON or nearly.
    fn nearly_json() -> impl Strategy<Value = String> {
        let token = prop_oneof![
            Just("{"),
            Just("}"),
            Just("["),
            Just("]"),
            Just(","),
            Just(":"),
            Just("\""),
            Just("\\"),
            Just("\\u00"),
            Just("true"),
            Just("null"),
            Just("false"),
            Just("1"),
            Just("0"),
            Just("-"),
            Just("."),
            Just("e"),
            Just(" "),
            Just("\"a\""),
            Just("\"a\":"),
            Just("\n"),
            Just("é"),
            Just("\\ud83d"),
            Just("\\n"),
        ];
        proptest::collection::vec(token, 0..12).prop_map(|tokens| tokens.concat())
    }

    proptest! {
        #[test]
        fn accepts_what_serde_json_accepts(text in prop_oneof![nearly_json(), any::<String>()]) {
            prop_assert_eq!(accepts(&text), serde_json::from_str::<&RawValue>(&text).is_ok());
        }

        #[test]
        fn reads_a_string_as_serde_json_does(inner in nearly_json()) {
            let json = format!("\"{inner}\"");
            let mut reader = Reader::new(&json);
            let ours = reader.string().and_then(|text| reader.end().map(|()| text)).ok();
            let ours = ours.and_then(|text| text.unescape().map(Cow::into_owned));
            prop_assert_eq!(ours, serde_json::from_str::<String>(&json).ok());
        }
    }
}
