use proptest::prelude::*;

use super::*;

fn answer(json: &str) -> Result<Answer, InvalidAnswer> {
    Answer::parse(&RawValue::from_string(json.to_owned()).unwrap())
}

fn failure(json: &str) -> TaskFailure {
    match answer(json).unwrap().outcome {
        Outcome::Failed(failure) | Outcome::Cancelled(failure) => failure,
        other => panic!("{json}: {other:?}"),
    }
}

fn job() -> JobMessage {
    JobMessage::parse(br#"{"Input":1,"TaskToken":"abc","JobId":"x"}"#).unwrap()
}

#[test]
fn the_samples_result_is_a_success() {
    let answer = answer(r#"{"result": 57, "TaskToken": "abc"}"#).unwrap();
    assert_eq!(answer.token.expose(), "abc");
    assert!(matches!(answer.outcome, Outcome::Succeeded(result) if result.get() == "57"));
}

#[test]
fn the_samples_failure_is_a_failure() {
    let failed = failure(r#"{"result":null,"TaskToken":"abc","exception":"KeyError"}"#);
    assert_eq!((failed.error(), failed.cause()), ("KeyError", "KeyError"));
    let failed = failure(r#"{"result":null,"TaskToken":"abc","exception":"no such table"}"#);

    assert_eq!((failed.error(), failed.cause()), (Answer::FAILED, "no such table"));
    assert_eq!(failure(r#"{"TaskToken":"abc","exception":""}"#).error(), Answer::FAILED);
    assert_eq!(failure(r#"{"TaskToken":"abc","exception":{"a":1}}"#).error(), r#"{"a":1}"#);
}

#[test]
fn a_null_result_is_a_result() {
    for json in [
        r#"{"result":null,"TaskToken":"abc"}"#,
        r#"{"result":null,"exception":null,"TaskToken":"abc"}"#,
        r#"{"Status":"SUCCEEDED","result":null,"TaskToken":"abc"}"#,
    ] {
        assert!(
            matches!(answer(json).unwrap().outcome, Outcome::Succeeded(r) if r.get() == "null"),
            "{json}"
        );
    }
}

#[test]
fn a_message_without_exactly_one_token_is_an_error() {
    for json in [
        "7",
        "[]",
        "\"x\"",
        "{}",
        r#"{"result":1}"#,
        r#"{"TaskToken":null}"#,
        r#"{"TaskToken":7}"#,
        r#"{"TaskToken":""}"#,
        r#"{"TaskToken":"a","TaskToken":"b"}"#,
    ] {
        assert!(answer(json).is_err(), "{json}");
    }

    assert!(answer(&format!(r#"{{"TaskToken":"{}","result":1}}"#, "x".repeat(2_049))).is_err());
}

#[test]
fn an_invalid_message_with_a_token_fails_its_task() {
    for json in [
        r#"{"TaskToken":"abc"}"#,
        r#"{"TaskToken":"abc","Status":"SUCCEEDED"}"#,
        r#"{"TaskToken":"abc","Status":"DONE","result":1}"#,
        r#"{"TaskToken":"abc","Status":7,"result":1}"#,
    ] {
        assert_eq!(failure(json).error(), Answer::INVALID, "{json}");
    }
}

#[test]
fn error_and_cause_are_cut_on_a_character_boundary() {
    let json = format!(
        r#"{{"TaskToken":"abc","Status":"FAILED","Error":"{}","Cause":"{}"}}"#,
        "é".repeat(300),
        "日".repeat(40_000)
    );
    let failed = failure(&json);

    assert_eq!(failed.error().chars().count(), 256);
    assert_eq!(failed.cause().chars().count(), 32_768);
}

#[test]
fn a_cancelled_job_fails_under_its_own_name() {
    let failed = failure(r#"{"TaskToken":"abc","Status":"CANCELLED","Cause":"asked to"}"#);
    assert_eq!((failed.error(), failed.cause()), (Answer::CANCELLED, "asked to"));

    let wire = AnswerMessage::cancelled(&job(), &failed);
    let back = answer(std::str::from_utf8(&wire).unwrap()).unwrap().outcome;
    assert!(matches!(back, Outcome::Cancelled(back) if back == failed));
}

#[test]
fn a_failure_always_fits_into_a_publish() {
    let failure = TaskFailure::new("E", "\u{1}".repeat(40_000));
    let message = AnswerMessage::failed(&job(), &failure);
    assert!(message.len() <= IOT_PAYLOAD_BYTES && message.len() > IOT_PAYLOAD_BYTES / 4);
    assert_eq!(self::failure(std::str::from_utf8(&message).unwrap()).error(), "E");
}

#[test]
fn an_error_of_66_000_characters_does_not_stop_the_message() {
    let failure = TaskFailure::new("E".repeat(66_000), "\u{1}".repeat(40_000));
    let message = AnswerMessage::failed(&job(), &failure);
    assert!(message.len() <= IOT_PAYLOAD_BYTES);
    let back = self::failure(std::str::from_utf8(&message).unwrap());
    assert_eq!(back.error(), "E".repeat(ERROR_CHARS));
}

#[test]
fn a_message_of_the_largest_size_is_still_sent() {
    let result = |bytes: usize| RawValue::from_string(format!("\"{}\"", "x".repeat(bytes))).unwrap();
    let overhead = AnswerMessage::succeeded(&job(), &result(0)).unwrap().len();
    let largest = AnswerMessage::succeeded(&job(), &result(IOT_PAYLOAD_BYTES - overhead));
    assert_eq!(largest.unwrap().len(), IOT_PAYLOAD_BYTES);
    assert!(AnswerMessage::succeeded(&job(), &result(IOT_PAYLOAD_BYTES - overhead + 1)).is_none());
}

#[test]
fn an_accepted_message_and_a_heartbeat_name_task_and_job_and_are_read_back() {
    let (accepted, heartbeat) = (AnswerMessage::accepted(&job()), AnswerMessage::heartbeat(&job()));
    let text = |message: Vec<u8>| String::from_utf8(message).unwrap();
    let (accepted, heartbeat) = (text(accepted), text(heartbeat));
    let fields = r#""TaskToken":"abc","JobId":"ba7816bf8f01cfea414140de5dae2223""#;

    assert_eq!(accepted, format!(r#"{{{fields},"Status":"ACCEPTED"}}"#));
    assert_eq!(heartbeat, format!(r#"{{{fields},"Status":"HEARTBEAT"}}"#));
    assert!(matches!(answer(&accepted).unwrap().outcome, Outcome::Accepted));
    assert!(matches!(answer(&heartbeat).unwrap().outcome, Outcome::Heartbeat));
}

#[test]
fn a_failed_task_without_a_job_id_names_the_task_alone() {
    let token = TaskToken::parse("abc").unwrap();
    let message = AnswerMessage::failed_task(&token, None, &TaskFailure::new("E", "why"));
    let expected =
        r#"{"TaskToken":"abc","Status":"FAILED","result":null,"exception":"E","Error":"E","Cause":"why"}"#;
    assert_eq!(String::from_utf8(message).unwrap(), expected);
}

#[test]
fn the_rules_stamps_are_kept_apart_from_the_result() {
    let answer = answer(r#"{"result":1,"TaskToken":"abc","tenant":"plant-7","worker":"w-1"}"#).unwrap();
    assert_eq!((answer.tenant.as_deref(), answer.worker.as_deref()), (Some("plant-7"), Some("w-1")));
}

#[test]
fn a_result_that_does_not_fit_is_not_sent() {
    let result = |bytes: usize| RawValue::from_string(format!("\"{}\"", "x".repeat(bytes))).unwrap();
    assert!(AnswerMessage::succeeded(&job(), &result(130_000)).is_some());
    assert!(AnswerMessage::succeeded(&job(), &result(131_072)).is_none());
}

proptest! {
    #[test]
    fn a_result_passes_through_to_the_letter(
        number in r"-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?",
    ) {
        let result = RawValue::from_string(format!(r#"{{"z": {number}, "a":[ ]}}"#)).unwrap();
        let wire = String::from_utf8(AnswerMessage::succeeded(&job(), &result).unwrap()).unwrap();
        match answer(&wire).unwrap().outcome {
            Outcome::Succeeded(back) => prop_assert_eq!(back.get(), result.get()),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn a_failure_passes_through(error in "[A-Za-z.]{1,40}", cause in ".{0,200}") {
        let wire = AnswerMessage::failed(&job(), &TaskFailure::new(&error, &cause));
        let back = failure(std::str::from_utf8(&wire).unwrap());
        prop_assert_eq!((back.error(), back.cause()), (error.as_str(), cause.as_str()));
    }

    #[test]
    fn no_json_makes_the_parser_panic(text in r#"[\[\]{}:,"a-zA-Z0-9. \\-]{0,80}"#) {
        if let Ok(value) = RawValue::from_string(text) {
            let _ = Answer::parse(&value);
        }
    }
}

#[test]
fn a_request_for_the_claim_check_leaves_the_task_open() {
    let request = UploadRequest { bytes: 7, sha256: "ab".repeat(32), content_type: "text/csv".into() };
    let wire = AnswerMessage::upload(&job(), &request);
    let back = answer(std::str::from_utf8(&wire).unwrap()).unwrap().outcome;
    assert!(matches!(back, Outcome::Upload(back) if back == request));

    let wire = AnswerMessage::download(&job());
    let back = answer(std::str::from_utf8(&wire).unwrap()).unwrap().outcome;
    assert!(matches!(back, Outcome::Download));
    let broken = failure(r#"{"TaskToken":"abc","Status":"UPLOAD","Bytes":7,"Sha256":"xyz"}"#);
    assert!(broken.cause().contains("Sha256"), "{broken:?}");
}

#[test]
fn a_result_in_s3_comes_back_and_a_broken_reference_fails_the_task() {
    let (sha256, content_type) = ("ab".repeat(32), "text/csv".into());
    let result = ResultRef { bucket: "b".into(), key: "t/abc".into(), bytes: 7, sha256, content_type };
    let wire = AnswerMessage::stored(&job(), &result);
    let back = answer(std::str::from_utf8(&wire).unwrap()).unwrap().outcome;
    assert!(matches!(back, Outcome::Stored(back) if back == result));

    let broken = failure(r#"{"TaskToken":"abc","Status":"SUCCEEDED","ResultRef":{"Bucket":"b"}}"#);
    assert!(broken.error() == Answer::INVALID && broken.cause().contains("ResultRef"), "{broken:?}");
    let sample = answer(r#"{"TaskToken":"abc","ResultRef":{}}"#).unwrap().outcome;
    assert!(matches!(sample, Outcome::Failed(_)), "without a Status only a result is a success");
}
