//! Reads the rows of a CSV object that msk-to-s3 wrote.
//!
//! Why not the `csv` crate: msk-to-s3 writes a missing value as an empty field and an empty text as `""`. The table
//! keeps them apart, and the crate does not. A property test compares the two readers in everything else.

use std::borrow::Cow;

/// A field of a row, as positions in the object's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field {
    start: usize,
    end: usize,
    quoted: bool,
}

impl Field {
    /// The field's text; `None` for a missing value.
    pub(crate) fn text<'t>(&self, text: &'t [u8]) -> Option<Cow<'t, [u8]>> {
        let raw = &text[self.start..self.end];
        match (self.quoted, raw) {
            (false, b"") => None,
            (false, raw) => Some(Cow::Borrowed(raw)),
            (true, raw) if memchr::memchr(b'"', raw).is_none() => Some(Cow::Borrowed(raw)),
            (true, raw) => Some(Cow::Owned(without_doubled_quotes(raw))),
        }
    }
}

/// Reads the row that begins at `at`, and returns where the next one begins. `None`: the quotes do not follow RFC 4180,
/// or the row's line break is missing.
pub(crate) fn read(text: &[u8], mut at: usize, fields: &mut Vec<Field>) -> Option<usize> {
    fields.clear();
    loop {
        let field = if text.get(at) == Some(&b'"') {
            let end = end_of_quoted(text, at + 1)?;
            Field { start: at + 1, end, quoted: true }
        } else {
            let length = text[at..].iter().position(|byte| matches!(byte, b',' | b'\n' | b'"'))?;
            Field { start: at, end: at + length, quoted: false }
        };

        fields.push(field);
        at = field.end + usize::from(field.quoted) + 1;
        match text.get(at - 1)? {
            b',' => {}
            b'\n' => return Some(at),
            _ => return None,
        }
    }
}

/// The position of the quote that ends a field.
fn end_of_quoted(text: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += memchr::memchr(b'"', text.get(at..)?)?;
        // Two quotes stand for one quote within the field.
        if text.get(at + 1) != Some(&b'"') {
            return Some(at);
        }
        at += 2;
    }
}

fn without_doubled_quotes(raw: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(quote) = memchr::memchr(b'"', rest) {
        text.extend_from_slice(&rest[..=quote]);
        rest = rest.get(quote + 2..).unwrap_or_default();
    }
    text.extend_from_slice(rest);
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All rows of a text, each field as text.
    fn rows(text: &[u8]) -> Option<Vec<Vec<Option<String>>>> {
        let (mut at, mut fields, mut rows) = (0, Vec::new(), Vec::new());
        while at < text.len() {
            at = read(text, at, &mut fields)?;
            let field =
                |field: &Field| field.text(text).map(|text| String::from_utf8(text.into_owned()).unwrap());
            rows.push(fields.iter().map(field).collect());
        }
        Some(rows)
    }

    proptest! {
        #[test]
        fn rows_are_read_as_the_csv_crate_reads_them(
            table in proptest::collection::vec(proptest::collection::vec("[a-z\",\n\r ]{0,8}", 2..5), 0..8)
        ) {
            let mut writer = csv::WriterBuilder::new().flexible(true).from_writer(Vec::new());
            for row in &table {
                writer.write_record(row).unwrap();
            }
            let text = writer.into_inner().unwrap();

            let read: Vec<Vec<String>> = rows(&text).unwrap().into_iter()
                .map(|row| row.into_iter().map(Option::unwrap_or_default).collect())
                .collect();
            prop_assert_eq!(read, table);
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "[a,\"\n]{0,20}") {
            let _ = rows(text.as_bytes());
        }
    }

    #[test]
    fn an_empty_text_is_not_a_missing_value() {
        assert_eq!(rows(b"a,,\"\"\n"), Some(vec![vec![Some("a".into()), None, Some(String::new())]]));
    }

    #[test]
    fn a_row_that_is_cut_off_is_invalid() {
        for text in ["a", "a,", "\"a", "\"a\"", "\"a\"b\n", "a\"b\n"] {
            assert_eq!(rows(text.as_bytes()), None, "{text}");
        }
    }
}
