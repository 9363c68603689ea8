//! The text of a JSON string, with and without its escapes.

use std::borrow::Cow;

/// The text between a JSON string's quotes, as it stands in the JSON, or a value of another kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Text<'t> {
    raw: &'t str,
    escaped: bool,
}

impl<'t> Text<'t> {
    /// `escaped` says whether `raw` contains a backslash.
    pub(super) fn new(raw: &'t str, escaped: bool) -> Self {
        Self { raw, escaped }
    }

    /// The text as it stands in the JSON, escapes included.
    pub(crate) fn raw(self) -> &'t str {
        self.raw
    }

    /// The text with its escapes resolved; `None` if it is not Unicode (half of a surrogate pair).
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
                let (character, after) = unicode_escape(rest)?;
                rest = after;
                character
            }
            // A quote, a backslash or a slash stands for itself.
            other => char::from(other),
        });
    }

    text.push_str(rest);
    Some(())
}

/// The character of the escape whose `\u` precedes `text`, and what follows it. A character beyond U+FFFF is written
/// as two escapes, a surrogate pair.
fn unicode_escape(text: &str) -> Option<(char, &str)> {
    let (unit, after) = utf16_unit(text)?;
    if !(0xd800..0xdc00).contains(&unit) {
        return Some((char::from_u32(u32::from(unit))?, after));
    }

    let (low, after) = utf16_unit(after.strip_prefix("\\u")?)?;
    Some((char::decode_utf16([unit, low]).next()?.ok()?, after))
}

/// The four hexadecimal digits at the beginning of `text`, and what follows them.
fn utf16_unit(text: &str) -> Option<(u16, &str)> {
    let (hex, rest) = text.split_at_checked(4)?;
    Some((u16::from_str_radix(hex, 16).ok()?, rest))
}
