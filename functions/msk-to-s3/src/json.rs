//! A strict JSON reader that hands out pieces of the text it reads: nothing is copied, no tree is built, and a
//! number stays the characters it was written with.
//!
//! Why not `serde_json` alone: it reads the same batch in three times the CPU time (`benches/kafka`), and it
//! makes numbers of number tokens. What it accepts, this accepts, and no more, deep nesting apart: a
//! property test holds both together.

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

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

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
    fn a_key_that_is_expected_is_read_only_if_it_comes() {
        let mut reader = Reader::new(r#"{"a":1,"b":2 ,"c":3,"c" :4}"#);
        let mut members = reader.object().unwrap();
        assert!(!reader.is_key(&mut members, "\"b\":"));
        assert!(reader.is_key(&mut members, "\"a\":"));
        assert_eq!(reader.value(), Ok("1"));
        assert!(!reader.is_key(&mut members, "\"c\":") && reader.is_key(&mut members, "\"b\":"));
        assert_eq!(reader.value(), Ok("2"));
        // White space is for `key`.
        assert!(!reader.is_key(&mut members, "\"c\":"));
        for value in ["3", "4"] {
            assert_eq!(reader.key(&mut members).unwrap().unwrap().unescape().as_deref(), Some("c"));
            assert!(!reader.is_key(&mut members, "\"c\":"), "a value comes, and no key");
            assert_eq!(reader.value(), Ok(value));
        }
        assert!(!reader.is_key(&mut members, "\"c\":"));
        assert_eq!(reader.key(&mut members), Ok(None));
        let mut empty = Reader::new("{}");
        let mut members = empty.object().unwrap();
        assert!(!empty.is_key(&mut members, "\"a\":"));
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
