use proptest::prelude::*;

use super::*;
use crate::DispatchRequest;

#[test]
fn a_broken_job_keeps_its_token_where_the_token_is_unambiguous() {
    for (rest, words) in [
        (r#""Other":1"#, "Input is missing"),
        (r#""Input":1,"Deadline":"tomorrow""#, "RFC 3339"),
        (r#""Input":1,"HeartbeatSeconds":-1"#, "HeartbeatSeconds must be"),
        (r#""Input":1,"Kind":{}"#, "Kind is an object"),
        (r#""Input":1,"Attempt":"one""#, "Attempt must be a whole number"),
        (r#""Input":1,"IdempotencyKey":"a b""#, "IdempotencyKey must have 1 to 64 characters"),
        (r#""Input":1,"Input":2"#, "duplicate field `Input`"),
        (r#""Input":1,"Kind":"a","Kind":"b""#, "duplicate field `Kind`"),
    ] {
        let error = JobMessage::parse(format!(r#"{{"TaskToken":"abc",{rest}}}"#).as_bytes()).unwrap_err();
        assert_eq!(error.token.unwrap().expose(), "abc", "{rest}");
        assert!(error.reason.contains(words), "{rest}: {}", error.reason);
    }
}

#[test]
fn a_broken_job_without_exactly_one_token_fails_no_task() {
    for payload in [
        "",
        "not json",
        "[]",
        "{}",
        r#"{"TaskToken":null}"#,
        r#"{"TaskToken":7}"#,
        r#"{"TaskToken":""}"#,
        r#"{"Input":1,"TaskToken":"abc","TaskToken":"abd"}"#,
    ] {
        assert_eq!(JobMessage::parse(payload.as_bytes()).unwrap_err().token, None, "{payload}");
    }
}

#[test]
fn an_input_may_be_kept_elsewhere_and_a_resume_is_taken_word_for_word() {
    let reference = r#"{"Bucket":"b","Key":"k","Url":"https://secret","Bytes":7,"Sha256":"ab"}"#;
    let wire = format!(r#"{{"InputRef":{reference},"TaskToken":"abc","Resume":{{"row": 700.0}}}}"#);
    let job = JobMessage::parse(wire.as_bytes()).unwrap();
    assert_eq!(job.resume.as_ref().unwrap().get(), r#"{"row": 700.0}"#);
    assert_eq!(serde_json::to_string(&job).unwrap(), wire);
    let reference = job.input_ref.unwrap();
    assert_eq!((reference.bytes, format!("{reference:?}").contains("secret")), (7, false));

    let broken = br#"{"InputRef":{"Bucket":"b"},"TaskToken":"abc"}"#;
    assert!(JobMessage::parse(broken).unwrap_err().reason.contains("InputRef"));
}

proptest! {
    #[test]
    fn an_input_passes_through_to_the_letter(
        number in r"-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?",
        text in ".{0,40}",
    ) {
        let input = format!(r#"{{"z": {number}, "a" : {}}}"#, serde_json::to_string(&text).unwrap());
        let event = RawValue::from_string(format!(r#"{{"Input":{input},"TaskToken":"t"}}"#)).unwrap();
        let message = DispatchRequest::parse(&event).unwrap().into_message(Timestamp::UNIX_EPOCH, None);
        let back = JobMessage::parse(&serde_json::to_vec(&message).unwrap()).unwrap();
        let back = back.input.unwrap();
        prop_assert_eq!(back.get(), input);
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = JobMessage::parse(&bytes);
    }

    #[test]
    fn no_json_makes_the_parser_panic(text in r#"[\[\]{}:,"a-zA-Z0-9. \\-]{0,80}"#) {
        let _ = JobMessage::parse(text.as_bytes());
    }
}

#[test]
fn the_trace_id_is_taken_from_a_valid_trace_parent_only() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let trace_id = |parent: &str| {
        let message = serde_json::json!({"Input": 1, "TaskToken": "T", "TraceParent": parent}).to_string();
        JobMessage::parse(message.as_bytes()).unwrap().trace_id().map(str::to_owned)
    };
    assert_eq!(trace_id(&format!("00-{TRACE}-00f067aa0ba902b7-01")).as_deref(), Some(TRACE));

    let zeros = "0".repeat(32);
    for invalid in [
        String::new(),
        TRACE.to_owned(),
        format!("00-{TRACE}"),
        format!("0-{TRACE}-00f067aa0ba902b7-01"),
        format!("00-{}-00f067aa0ba902b7-01", &TRACE[1..]),
        format!("00-{}-00f067aa0ba902b7-01", TRACE.to_uppercase()),
        format!("00-{zeros}-00f067aa0ba902b7-01"),
        format!("00-{TRACE}-00f067aa0ba902b-01"),
    ] {
        assert_eq!(trace_id(&invalid), None, "{invalid}");
    }
}
