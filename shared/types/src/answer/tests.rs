use proptest::prelude::*;

use super::*;

fn answer(json: &str) -> Result<Answer, InvalidAnswer> {
    Answer::parse(&RawValue::from_string(json.to_owned()).unwrap())
}

fn failure(json: &str) -> TaskFailure {
    match answer(json).unwrap().outcome {
        Outcome::Failed(failure) => failure,
        other => panic!("{json}: {other:?}"),
    }
}

fn job() -> JobMessage {
    JobMessage::parse(br#"{"Input":1,"TaskToken":"abc","JobId":"x"}"#).unwrap()
}

#[test]
fn the_samples_result() {
    let answer = answer(r#"{"result": 57, "TaskToken": "abc"}"#).unwrap();
    assert_eq!(answer.token.expose(), "abc");
    assert!(matches!(answer.outcome, Outcome::Succeeded(result) if result.get() == "57"));
}

#[test]
fn the_samples_failure_is_a_failure() {
    let failed = failure(r#"{"result":null,"TaskToken":"abc","exception":"KeyError"}"#);
    assert_eq!((failed.error.as_str(), failed.cause.as_str()), ("KeyError", "KeyError"));
    let failed = failure(r#"{"result":null,"TaskToken":"abc","exception":"no such table"}"#);
    assert_eq!((failed.error.as_str(), failed.cause.as_str()), (Answer::FAILED, "no such table"));
    assert_eq!(failure(r#"{"TaskToken":"abc","exception":""}"#).error, Answer::FAILED);
    assert_eq!(failure(r#"{"TaskToken":"abc","exception":{"a":1}}"#).error, r#"{"a":1}"#);
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
fn what_names_no_task_is_poison() {
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
fn what_names_a_task_but_makes_no_sense_fails_it() {
    for json in [
        r#"{"TaskToken":"abc"}"#,
        r#"{"TaskToken":"abc","Status":"SUCCEEDED"}"#,
        r#"{"TaskToken":"abc","Status":"DONE","result":1}"#,
        r#"{"TaskToken":"abc","Status":7,"result":1}"#,
    ] {
        assert_eq!(failure(json).error, Answer::INVALID, "{json}");
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
    assert_eq!(failed.error.chars().count(), 256);
    assert_eq!(failed.cause.chars().count(), 32_768);
}

#[test]
fn a_cancelled_job_fails_under_its_own_name() {
    let failed = failure(r#"{"TaskToken":"abc","Status":"CANCELLED","Cause":"asked to"}"#);
    assert_eq!((failed.error.as_str(), failed.cause.as_str()), (Answer::CANCELLED, "asked to"));
}

#[test]
fn a_failure_always_fits_into_a_publish() {
    let failure = TaskFailure::new("E", "\u{1}".repeat(40_000));
    let message = AnswerMessage::failed(&job(), &failure);
    assert!(message.len() <= IOT_PAYLOAD_BYTES && message.len() > IOT_PAYLOAD_BYTES / 4);
    assert_eq!(self::failure(std::str::from_utf8(&message).unwrap()).error, "E");
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
        prop_assert_eq!(back, TaskFailure { error, cause });
    }

    #[test]
    fn no_json_makes_the_parser_panic(text in r#"[\[\]{}:,"a-zA-Z0-9. \\-]{0,80}"#) {
        if let Ok(value) = RawValue::from_string(text) {
            let _ = Answer::parse(&value);
        }
    }
}
