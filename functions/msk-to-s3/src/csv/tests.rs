use proptest::prelude::*;

use super::*;

const PLAIN: Fields = Fields { neutralize: false, line_breaks: LineBreaks::Keep };
const SAFE: Fields = Fields { neutralize: true, line_breaks: LineBreaks::Keep };

fn text(fields: Fields, text: &str) -> String {
    let mut out = Vec::new();
    fields.text(&mut out, text);
    String::from_utf8(out).unwrap()
}

fn line(fields: Fields, line: &str, columns: usize) -> Result<String, BadRecord> {
    let mut out = Vec::new();
    fields.line(&mut out, line, columns).map(|()| String::from_utf8(out).unwrap())
}

/// The fields of the one record that an independent parser reads.
fn parse(csv: &str) -> Vec<String> {
    let mut parser = csv::ReaderBuilder::new().has_headers(false).from_reader(csv.as_bytes());
    let records: Vec<csv::StringRecord> = parser.records().collect::<Result<_, _>>().unwrap();
    assert_eq!(records.len(), 1, "{csv:?}");
    records[0].iter().map(str::to_owned).collect()
}

#[test]
fn a_field_is_quoted_only_where_it_must_be() {
    assert_eq!(text(PLAIN, "São Paulo"), "São Paulo");
    assert_eq!(text(PLAIN, "a,b"), r#""a,b""#);
    assert_eq!(text(PLAIN, r#"5" pipe"#), r#""5"" pipe""#);
    assert_eq!(text(PLAIN, "a\r\nb"), "\"a\r\nb\"");
    assert_eq!(text(PLAIN, ""), r#""""#);
    assert_eq!(text(PLAIN, "\u{feff}a"), "\"\u{feff}a\"");
}

#[test]
fn line_breaks_become_spaces_if_the_configuration_says_so() {
    let flat = Fields { neutralize: true, line_breaks: LineBreaks::Space };
    assert_eq!(text(flat, "a\r\nb\nc\rd"), "a b c d");
    assert_eq!(text(flat, "=a,\n"), "\"'=a, \"");
    assert_eq!(text(flat, "ab"), "ab");
}

#[test]
fn formulas_are_neutralized_if_the_configuration_says_so_and_numbers_never() {
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
fn a_valid_line_is_written_unchanged_and_an_invalid_one_is_refused() {
    for good in ["a,b", r#""a,b",c"#, r#""a ""b""",c"#, ",", "é,日本", r#""","#, r#","""#] {
        assert_eq!(line(PLAIN, good, 2).unwrap(), good);
        assert_eq!(line(PLAIN, good, 0).unwrap(), good);
        assert_eq!(line(PLAIN, good, 3), Err(BadRecord::FieldCount));
    }

    for bad in ["\"", "\"a", "\"a\"b", "a\"b", "a,\"b\" ,c", "\"\"\"", "\"a,b"] {
        assert_eq!(line(PLAIN, bad, 0), Err(BadRecord::Quotes), "{bad}");
    }
    for bad in ["a\nb", "a\r", "\"a\nb\"", "a,b\n"] {
        assert_eq!(line(PLAIN, bad, 0), Err(BadRecord::LineBreak), "{bad:?}");
    }
}

#[test]
fn a_byte_order_mark_stays_data() {
    assert_eq!(parse(&line(PLAIN, "\u{feff}a,b", 2).unwrap()), ["\u{feff}a", "b"]);
    assert_eq!(line(PLAIN, "\u{feff}\"a\",b", 2), Err(BadRecord::Quotes));
}

/// Text in which the special characters of CSV are frequent.
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
    fn every_text_is_read_back_unchanged(fields in proptest::collection::vec(tricky(), 1..6)) {
        let mut out = Vec::new();
        for (at, field) in fields.iter().enumerate() {
            out.extend_from_slice(if at == 0 { b"" } else { b"," });
            PLAIN.text(&mut out, field);
        }
        prop_assert_eq!(parse(std::str::from_utf8(&out).unwrap()), fields);
    }

    #[test]
    fn an_accepted_line_is_one_record_with_the_same_fields(input in tricky()) {
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
    fn the_fields_of_a_line_are_counted_as_they_are_split(input in tricky()) {
        let fields: Result<Vec<_>, _> = split(&input).collect();
        prop_assert_eq!(count_fields(&input), fields.map(|fields| fields.len()));
    }

    #[test]
    fn neutralizing_adds_nothing_but_an_apostrophe(input in tricky()) {
        if let (Ok(plain), Ok(safe)) = (line(PLAIN, &input, 0), line(SAFE, &input, 0)) && !plain.is_empty() {
            for (plain, safe) in parse(&plain).iter().zip(parse(&safe)) {
                let wanted = if is_formula(plain) { format!("'{plain}") } else { plain.clone() };
                prop_assert_eq!(safe, wanted);
            }
        }
    }
}
