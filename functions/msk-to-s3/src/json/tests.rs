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
fn invalid_json_is_refused() {
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
fn nesting_beyond_127_levels_is_refused_before_the_stack_overflows() {
    let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(accepts(&nested(127)));
    assert!(!accepts(&nested(128)));
    assert!(!accepts(&"[".repeat(1_000_000)));
    assert!(!accepts(&r#"{"a":"#.repeat(1_000_000)));
}

#[test]
fn values_are_returned_as_they_were_written() {
    let mut reader = Reader::new(r#" {"n" : 1.500e+3 , "o":{"b" : [ ]},"s":"x" }"#);
    reader.object().unwrap();

    let mut seen = Vec::new();
    while let Some(key) = reader.key().unwrap() {
        seen.push((key.unescape().unwrap().into_owned(), reader.value().unwrap()));
    }
    assert_eq!(seen, [("n".into(), "1.500e+3"), ("o".into(), r#"{"b" : [ ]}"#), ("s".into(), r#""x""#)]);
}

#[test]
fn an_expected_key_is_passed_only_if_it_is_next() {
    let mut reader = Reader::new(r#"{"a":1,"b":2 ,"c":3,"c" :4}"#);
    reader.object().unwrap();
    assert!(!reader.skip_key("\"b\":"));
    assert!(reader.skip_key("\"a\":"));
    assert_eq!(reader.value(), Ok("1"));
    assert!(!reader.skip_key("\"c\":") && reader.skip_key("\"b\":"));
    assert_eq!(reader.value(), Ok("2"));

    // `skip_key` does not pass white space; `key` does.
    assert!(!reader.skip_key("\"c\":"));
    for value in ["3", "4"] {
        assert_eq!(reader.key().unwrap().unwrap().unescape().as_deref(), Some("c"));
        assert!(!reader.skip_key("\"c\":"), "a value is next, not a key");
        assert_eq!(reader.value(), Ok(value));
    }
    assert!(!reader.skip_key("\"c\":"));
    assert_eq!(reader.key(), Ok(None));

    let mut empty = Reader::new("{}");
    empty.object().unwrap();
    assert!(!empty.skip_key("\"a\":"));
}

#[test]
fn half_a_surrogate_pair_is_not_text() {
    assert_eq!(text(r#""\ud83d\ude00\u00e9\/""#).as_deref(), Some("😀é/"));
    for half in [r#""\ud83d""#, r#""\ude00""#, r#""\ud83dx""#, r#""\ud83d\ud83d""#, r#""\ud83d\n""#] {
        assert_eq!(text(half), None, "{half}");
    }
}

/// Text that is JSON or close to it.
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
    fn reads_a_whole_number_as_serde_json_does(text in prop_oneof![
        nearly_json(), any::<u64>().prop_map(|number| number.to_string()), "-?[0-9]{1,21}", "0|00|1e2|1.0|0e|7 ",
    ]) {
        let mut reader = Reader::new(&text);
        let ours = reader.unsigned().and_then(|number| reader.end().map(|()| number)).ok();

        let value = serde_json::from_str::<&RawValue>(&text).ok();
        prop_assert_eq!(ours, value.map(|value| value.get().parse().ok()));
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
