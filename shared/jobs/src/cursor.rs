//! The place in a list of jobs from which the next page begins.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use jiff::Timestamp;
use postern_types::JobId;

use crate::time::time_text;

/// The last job of a page: the next page begins after it.
///
/// Callers treat its text as opaque. A cursor names no tenant, because a list is always one tenant's: a forged cursor
/// can only begin the forger's own list elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    pub(crate) dispatched_at: String,
    pub(crate) job_id: JobId,
}

/// A text that [`Cursor::text`] did not make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cursor is not one that this API returned; begin again without a cursor")]
pub struct InvalidCursor;

impl Cursor {
    /// Reads the text of a cursor.
    pub fn parse(text: &str) -> Result<Self, InvalidCursor> {
        let bytes = BASE64.decode(text).map_err(|_| InvalidCursor)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| InvalidCursor)?;
        let (time, id) = text.split_once(' ').ok_or(InvalidCursor)?;

        let at: Timestamp = time.parse().map_err(|_| InvalidCursor)?;
        let job_id = JobId::parse(id).map_err(|_| InvalidCursor)?;
        let cursor = Self { dispatched_at: time_text(at), job_id };
        if cursor.dispatched_at == time { Ok(cursor) } else { Err(InvalidCursor) }
    }

    /// The cursor as text for an address: letters, digits, `-` and `_`.
    pub fn text(&self) -> String {
        BASE64.encode(format!("{} {}", self.dispatched_at, self.job_id))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_is_read_back(millis in 0_i64..4_000_000_000_000, id in "[0-9a-f]{32}") {
            let dispatched_at = time_text(Timestamp::from_millisecond(millis).unwrap());
            let cursor = Cursor { dispatched_at, job_id: JobId::parse(&*id).unwrap() };
            prop_assert_eq!(Cursor::parse(&cursor.text()), Ok(cursor));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC*", content in "\\PC*") {
            let _ = Cursor::parse(&text);
            let _ = Cursor::parse(&BASE64.encode(content));
        }
    }

    #[test]
    fn a_forged_cursor_is_refused() {
        for content in [
            "",
            "2026-11-24T22:51:14.123Z key#a",
            "2026-11-24T22:51:14Z ba7816bf8f01cfea414140de5dae2223",
            "x ba7816bf8f01cfea414140de5dae2223",
        ] {
            assert_eq!(Cursor::parse(&BASE64.encode(content)), Err(InvalidCursor), "{content}");
        }
        assert_eq!(Cursor::parse("*"), Err(InvalidCursor));
    }
}
