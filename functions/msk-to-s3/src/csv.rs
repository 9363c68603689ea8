//! CSV by RFC 4180: writes text as a field, and checks that a line is a valid row.

use crate::bad_record::BadRecord;
use crate::config::LineBreaks;
use crate::scan::needs_quotes;

/// How fields are written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields {
    /// Whether a field that a spreadsheet would run as a formula gets an apostrophe.
    pub(crate) neutralize: bool,
    /// How a line break in a field is written.
    pub(crate) line_breaks: LineBreaks,
}

impl Fields {
    /// Whether a text without commas, quotes and control characters is a field as it is.
    pub(crate) fn keeps(self, text: &str) -> bool {
        !self.neutralize && !text.is_empty() && !text.starts_with('\u{feff}')
    }

    /// Appends `text` to `out` as one field.
    pub(crate) fn text(self, out: &mut Vec<u8>, text: &str) {
        if self.line_breaks == LineBreaks::Space && text.contains(['\r', '\n']) {
            let text = text.replace("\r\n", " ").replace(['\r', '\n'], " ");
            return Self { line_breaks: LineBreaks::Keep, ..self }.text(out, &text);
        }

        let formula = self.neutralize && is_formula(text);
        // A byte order mark at the start of an object is not read as data unless it is quoted.
        if text.is_empty() || needs_quotes(text.as_bytes()) || text.starts_with('\u{feff}') {
            out.push(b'"');
            out.extend_from_slice(if formula { b"'" } else { b"" });

            // A quote within the text is doubled.
            let mut rest = text.as_bytes();
            while let Some(quote) = memchr::memchr(b'"', rest) {
                out.extend_from_slice(&rest[..=quote]);
                out.push(b'"');
                rest = &rest[quote + 1..];
            }
            out.extend_from_slice(rest);
            out.push(b'"');
        } else {
            out.extend_from_slice(if formula { b"'" } else { b"" });
            out.extend_from_slice(text.as_bytes());
        }
    }

    /// Appends a CSV line to `out` as it is, if it is a valid row of `columns` fields. With 0 columns any number of
    /// fields is valid.
    pub(crate) fn line(self, out: &mut Vec<u8>, line: &str, columns: usize) -> Result<(), BadRecord> {
        if memchr::memchr2(b'\n', b'\r', line.as_bytes()).is_some() {
            return Err(BadRecord::LineBreak);
        }
        if columns == 0 {
            unquoted(line, |_| ())?;
        } else if count_fields(line)? != columns {
            return Err(BadRecord::FieldCount);
        }

        if self.neutralize || line.starts_with('\u{feff}') {
            self.rewrite(out, line)
        } else {
            out.extend_from_slice(line.as_bytes());
            Ok(())
        }
    }

    /// Copies a line field by field, and adds the apostrophes and quotes that [`Fields::text`] would add.
    fn rewrite(self, out: &mut Vec<u8>, line: &str) -> Result<(), BadRecord> {
        for (at, field) in split(line).enumerate() {
            let field = field?;
            out.extend_from_slice(if at == 0 { b"" } else { b"," });

            match field.strip_prefix('"') {
                Some(quoted) => {
                    out.push(b'"');
                    out.extend_from_slice(if self.neutralize && is_formula(quoted.trim_end_matches('"')) {
                        b"'"
                    } else {
                        b""
                    });
                    out.extend_from_slice(quoted.as_bytes());
                }
                None if field.is_empty() => {}
                None => self.text(out, field),
            }
        }
        Ok(())
    }
}

/// The number of fields of a line without line breaks.
fn count_fields(line: &str) -> Result<usize, BadRecord> {
    let mut fields = 1;
    unquoted(line, |text| fields += memchr::memchr_iter(b',', text.as_bytes()).count())?;
    Ok(fields)
}

/// Checks the quotes of a line without line breaks, and passes each stretch outside of quoted fields to `visit`. This takes
/// two searches for each quoted field, where [`split`] takes one for every field.
fn unquoted<'l>(line: &'l str, mut visit: impl FnMut(&'l str)) -> Result<(), BadRecord> {
    let mut rest = line;
    while let Some(quote) = memchr::memchr(b'"', rest.as_bytes()) {
        // A quoted field begins the line or follows a comma, and it ends the line or precedes one.
        let (before, field) = rest.split_at(quote);
        if !before.is_empty() && !before.ends_with(',') {
            return Err(BadRecord::Quotes);
        }
        visit(before);

        let end = end_of_quoted(&field[1..]).ok_or(BadRecord::Quotes)?;
        rest = &field[1 + end..];
        if !rest.is_empty() && !rest.starts_with(',') {
            return Err(BadRecord::Quotes);
        }
    }
    visit(rest);
    Ok(())
}

/// The fields of a line without line breaks, each with its quotes.
pub(crate) fn split(line: &str) -> impl Iterator<Item = Result<&str, BadRecord>> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let text = rest.take()?;
        let end = match text.strip_prefix('"') {
            Some(quoted) => match end_of_quoted(quoted) {
                Some(end) => end + 1,
                None => return Some(Err(BadRecord::Quotes)),
            },
            // A quote inside an unquoted field ends the field here, and is refused below because no comma follows.
            None => memchr::memchr2(b',', b'"', text.as_bytes()).unwrap_or(text.len()),
        };

        let (field, after) = text.split_at(end);
        rest = match after.strip_prefix(',') {
            None if after.is_empty() => None,
            None => return Some(Err(BadRecord::Quotes)),
            after => after,
        };
        Some(Ok(field))
    })
}

/// The length of a quoted field without its opening quote, but with its closing one.
fn end_of_quoted(text: &str) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr::memchr(b'"', &text.as_bytes()[at..])? + 1;
        // Two quotes stand for one quote within the field.
        if !text[at..].starts_with('"') {
            return Some(at);
        }
        at += 1;
    }
}

/// Whether a spreadsheet may run the text as a formula. A plain number with a sign is not a formula.
fn is_formula(text: &str) -> bool {
    match text.as_bytes().first() {
        Some(b'=' | b'@' | b'\t' | b'\r' | b'\n') => true,
        Some(b'+' | b'-') => {
            !text[1..].bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') || text.len() == 1
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
