//! A string of JSON, and its text.

use std::borrow::Cow;

/// A string's text between its quotes, as it stands in the JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Text<'t> {
    pub(super) raw: &'t str,
    pub(super) escaped: bool,
}

impl<'t> Text<'t> {
    /// What a reader found before, or a value that is no string: it has no escapes.
    pub(crate) fn again(raw: &'t str, escaped: bool) -> Self {
        Self { raw, escaped }
    }

    /// The text with its escapes.
    pub(crate) fn raw(self) -> &'t str {
        self.raw
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
