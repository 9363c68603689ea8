//! CSV by RFC 4180: how a field is written, and whether a line is one.

use crate::scan::needs_quotes;
use crate::settings::LineBreaks;

/// Why a value makes no row. The words are for the log: they hold nothing of the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Bad {
    #[error("the value is not base64")]
    NotBase64,
    #[error("the value is not UTF-8")]
    NotUtf8,
    #[error("the line holds a line break")]
    LineBreak,
    #[error("the line's quotes are not RFC 4180's")]
    Quotes,
    #[error("the line has more or fewer fields than CSV_COLUMNS")]
    FieldCount,
    #[error("the value is no JSON object")]
    NotAnObject,
    #[error("the record is to name the columns, and has none")]
    NoColumns,
    #[error("the record is to name the columns, and has more than 1,024 keys")]
    TooManyColumns,
    #[error("the record has a key that is no column")]
    ExtraColumn,
}

/// How fields are written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields {
    /// Whether a spreadsheet must not take a field for a formula.
    pub(crate) neutralize: bool,
    /// What becomes of a line break.
    pub(crate) line_breaks: LineBreaks,
}

impl Fields {
    /// Writes text as one field.
    pub(crate) fn text(self, out: &mut Vec<u8>, text: &str) {
        if self.line_breaks == LineBreaks::Space && text.contains(['\r', '\n']) {
            let text = text.replace("\r\n", " ").replace(['\r', '\n'], " ");
            return Self { line_breaks: LineBreaks::Keep, ..self }.text(out, &text);
        }
        let formula = self.neutralize && is_formula(text);
        // A byte order mark at the start of an object would not be taken for data; in quotes it is.
        if text.is_empty() || needs_quotes(text.as_bytes()) || text.starts_with('\u{feff}') {
            out.push(b'"');
            out.extend_from_slice(if formula { b"'" } else { b"" });
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

    /// Writes a CSV line as it is, once it is known to be one of `columns` fields (0: any number).
    pub(crate) fn line(self, out: &mut Vec<u8>, line: &str, columns: usize) -> Result<(), Bad> {
        match memchr::memchr3(b'"', b'\n', b'\r', line.as_bytes()) {
            None if columns == 0 => {}
            None => {
                let fields = memchr::memchr_iter(b',', line.as_bytes()).count() + 1;
                if fields != columns {
                    return Err(Bad::FieldCount);
                }
            }
            Some(_) if memchr::memchr2(b'\n', b'\r', line.as_bytes()).is_some() => {
                return Err(Bad::LineBreak);
            }
            Some(_) => {
                let mut fields = 0;
                for field in split(line) {
                    field?;
                    fields += 1;
                }
                if columns != 0 && fields != columns {
                    return Err(Bad::FieldCount);
                }
            }
        }
        if self.neutralize || line.starts_with('\u{feff}') {
            self.rewrite(out, line)
        } else {
            out.extend_from_slice(line.as_bytes());
            Ok(())
        }
    }

    /// Copies a line field by field, with what [`Fields::text`] would add.
    fn rewrite(self, out: &mut Vec<u8>, line: &str) -> Result<(), Bad> {
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

/// The fields of a line that holds no line break, each with its quotes.
fn split(line: &str) -> impl Iterator<Item = Result<&str, Bad>> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let text = rest.take()?;
        let end = match text.strip_prefix('"') {
            Some(quoted) => match end_of_quoted(quoted) {
                Some(end) => end + 1,
                None => return Some(Err(Bad::Quotes)),
            },
            // A quote within a field that does not begin with one is found below.
            None => memchr::memchr2(b',', b'"', text.as_bytes()).unwrap_or(text.len()),
        };
        let (field, after) = text.split_at(end);
        rest = match after.strip_prefix(',') {
            None if after.is_empty() => None,
            None => return Some(Err(Bad::Quotes)),
            after => after,
        };
        Some(Ok(field))
    })
}

/// Where the text after an opening quote ends, its closing quote included.
fn end_of_quoted(text: &str) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr::memchr(b'"', &text.as_bytes()[at..])? + 1;
        if !text[at..].starts_with('"') {
            return Some(at);
        }
        at += 1;
    }
}

/// What a spreadsheet may take for a formula. A plain number with a sign is none.
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: Fields = Fields { neutralize: false, line_breaks: LineBreaks::Keep };
    const SAFE: Fields = Fields { neutralize: true, line_breaks: LineBreaks::Keep };

    fn text(fields: Fields, text: &str) -> String {
        let mut out = Vec::new();
        fields.text(&mut out, text);
        String::from_utf8(out).unwrap()
    }

    fn line(fields: Fields, line: &str, columns: usize) -> Result<String, Bad> {
        let mut out = Vec::new();
        fields.line(&mut out, line, columns).map(|()| String::from_utf8(out).unwrap())
    }

    /// The one record that an independent parser reads.
    fn parse(csv: &str) -> Vec<String> {
        let mut parser = csv::ReaderBuilder::new().has_headers(false).from_reader(csv.as_bytes());
        let records: Vec<csv::StringRecord> = parser.records().collect::<Result<_, _>>().unwrap();
        assert_eq!(records.len(), 1, "{csv:?}");
        records[0].iter().map(str::to_owned).collect()
    }

    #[test]
    fn quotes_stand_where_they_must() {
        assert_eq!(text(PLAIN, "São Paulo"), "São Paulo");
        assert_eq!(text(PLAIN, "a,b"), r#""a,b""#);
        assert_eq!(text(PLAIN, r#"5" pipe"#), r#""5"" pipe""#);
        assert_eq!(text(PLAIN, "a\r\nb"), "\"a\r\nb\"");
        assert_eq!(text(PLAIN, ""), r#""""#);
        assert_eq!(text(PLAIN, "\u{feff}a"), "\"\u{feff}a\"");
    }

    #[test]
    fn line_breaks_become_spaces_when_asked() {
        let flat = Fields { neutralize: true, line_breaks: LineBreaks::Space };
        assert_eq!(text(flat, "a\r\nb\nc\rd"), "a b c d");
        assert_eq!(text(flat, "=a,\n"), "\"'=a, \"");
        assert_eq!(text(flat, "ab"), "ab");
    }

    #[test]
    fn formulas_are_neutralized_when_asked_and_numbers_never() {
        for formula in ["=1+1", "+a", "-a", "@x", "\tx", "-", "-1+1", "=\"a\"", "\r", "\n=1"] {
            let written = text(SAFE, formula);
            assert_eq!(parse(&written), [format!("'{formula}")]);
            assert_eq!(parse(&text(PLAIN, formula)), [formula]);
        }
        for plain in ["-5", "+5.25", "a=1", "5-3", ""] {
            assert_eq!(parse(&text(SAFE, plain)), [plain]);
        }
        assert_eq!(line(SAFE, r#"=a,"=b",-5,"-5",,"x""=""#, 0).unwrap(), r#"'=a,"'=b",-5,"-5",,"x""=""#);
        assert_eq!(line(PLAIN, r#"=a,"=b",-5"#, 3).unwrap(), r#"=a,"=b",-5"#);
    }

    #[test]
    fn a_line_is_taken_as_it_is_or_not_at_all() {
        for good in ["a,b", r#""a,b",c"#, r#""a ""b""",c"#, ",", "é,日本", r#""","#, r#","""#] {
            assert_eq!(line(PLAIN, good, 2).unwrap(), good);
            assert_eq!(line(PLAIN, good, 0).unwrap(), good);
            assert_eq!(line(PLAIN, good, 3), Err(Bad::FieldCount));
        }
        for bad in ["\"", "\"a", "\"a\"b", "a\"b", "a,\"b\" ,c", "\"\"\"", "\"a,b"] {
            assert_eq!(line(PLAIN, bad, 0), Err(Bad::Quotes), "{bad}");
        }
        for bad in ["a\nb", "a\r", "\"a\nb\"", "a,b\n"] {
            assert_eq!(line(PLAIN, bad, 0), Err(Bad::LineBreak), "{bad:?}");
        }
    }

    #[test]
    fn a_byte_order_mark_stays_data() {
        assert_eq!(parse(&line(PLAIN, "\u{feff}a,b", 2).unwrap()), ["\u{feff}a", "b"]);
        assert_eq!(line(PLAIN, "\u{feff}\"a\",b", 2), Err(Bad::Quotes));
    }

    /// Text in which what matters to CSV is frequent.
    fn tricky() -> impl Strategy<Value = String> {
        proptest::collection::vec(
            prop_oneof![
                Just("\"".to_owned()),
                Just(",".into()),
                Just("\n".into()),
                Just("\r".into()),
                Just("=".into()),
                Just("-".into()),
                Just("\u{feff}".into()),
                Just(" ".into()),
                any::<char>().prop_map(String::from)
            ],
            0..12,
        )
        .prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn any_text_is_read_back_as_it_was(fields in proptest::collection::vec(tricky(), 1..6)) {
            let mut out = Vec::new();
            for (at, field) in fields.iter().enumerate() {
                out.extend_from_slice(if at == 0 { b"" } else { b"," });
                PLAIN.text(&mut out, field);
            }
            prop_assert_eq!(parse(std::str::from_utf8(&out).unwrap()), fields);
        }

        #[test]
        fn a_line_that_is_taken_is_one_record_of_the_same_fields(input in tricky()) {
            if let Ok(written) = line(PLAIN, &input, 0) && !written.is_empty() {
                let fields = parse(&written);
                prop_assert!(line(PLAIN, &input, fields.len()).is_ok());
                let plain: Vec<String> = split(&input).map(|field| {
                    let field = field.unwrap();
                    match field.strip_prefix('"').and_then(|field| field.strip_suffix('"')) {
                        Some(inner) => inner.replace("\"\"", "\""),
                        None => field.to_owned(),
                    }
                }).collect();
                prop_assert_eq!(fields, plain);
            }
        }

        #[test]
        fn neutralizing_adds_an_apostrophe_and_nothing_else(input in tricky()) {
            if let (Ok(plain), Ok(safe)) = (line(PLAIN, &input, 0), line(SAFE, &input, 0)) && !plain.is_empty() {
                for (plain, safe) in parse(&plain).iter().zip(parse(&safe)) {
                    let wanted = if is_formula(plain) { format!("'{plain}") } else { plain.clone() };
                    prop_assert_eq!(safe, wanted);
                }
            }
        }
    }
}
