use proptest::prelude::*;

use super::*;

fn request(json: &str) -> Result<DispatchRequest, InvalidRequest> {
    DispatchRequest::parse(&RawValue::from_string(json.to_owned()).unwrap())
}

#[test]
fn the_samples_request_becomes_the_samples_message_with_an_id_and_a_key() {
    let request = request(r#"{"Input":{"a":15,"b":42},"TaskToken":"abc"}"#).unwrap();
    assert_eq!(request.job, JobOptions::default());

    let message = request.into_message(Timestamp::UNIX_EPOCH, None);
    assert_eq!(
        serde_json::to_string(&message).unwrap(),
        r#"{"Input":{"a":15,"b":42},"TaskToken":"abc","JobId":"ba7816bf8f01cfea414140de5dae2223","IdempotencyKey":"ba7816bf8f01cfea414140de5dae2223"}"#
    );
}

#[test]
fn every_option_reaches_the_worker() {
    let request = request(
        r#"{"Input":null,"TaskToken":"abc","Execution":"arn:e","State":"S","EnteredTime":"2026-01-31T12:00:00Z",
            "Attempt":1,"Item":[3],"Job":{"Tenant":"plant-7","Kind":"add","Name":"n","TimeoutSeconds":90,
            "HeartbeatSeconds":30,"IdempotencyKey":"invoice-4711"}}"#,
    )
    .unwrap();
    assert_eq!(request.job.tenant.as_ref().unwrap().as_str(), "plant-7");
    assert_eq!(request.item, [3]);

    let message = request.into_message(Timestamp::UNIX_EPOCH, Some("00-1-2-01".into()));
    let wire = serde_json::to_vec(&message).unwrap();
    let back = JobMessage::parse(&wire).unwrap();
    assert_eq!(back.input.as_ref().unwrap().get(), "null");
    assert_eq!(back.kind.as_deref(), Some("add"));
    assert_eq!(back.execution.as_deref(), Some("arn:e"));
    assert_eq!(back.deadline.unwrap().to_string(), "1970-01-01T00:01:30Z");
    assert_eq!(back.heartbeat_seconds, Some(30));
    assert_eq!(back.idempotency_key.as_deref(), Some("invoice-4711"));
    assert_eq!(back.state.as_deref(), Some("S"));
    assert_eq!(back.attempt, Some(1));
    assert_eq!(back.trace_parent.as_deref(), Some("00-1-2-01"));
    assert_eq!(back.job_id, Some(back.id()));
    assert_eq!(serde_json::to_vec(&back).unwrap(), wire);
}

#[test]
fn a_message_expires_with_the_shorter_of_timeout_and_heartbeat() {
    for (job, expiry) in [
        ("{}", None),
        (r#"{"TimeoutSeconds":300}"#, Some(300)),
        (r#"{"HeartbeatSeconds":60}"#, Some(60)),
        (r#"{"TimeoutSeconds":300,"HeartbeatSeconds":60}"#, Some(60)),
        (r#"{"TimeoutSeconds":30,"HeartbeatSeconds":60}"#, Some(30)),
    ] {
        let request = request(&format!(r#"{{"Input":1,"TaskToken":"t","Job":{job}}}"#)).unwrap();
        assert_eq!(request.job.expiry_seconds(), expiry, "{job}");
    }
}

#[test]
fn an_error_names_the_field_and_what_is_wrong() {
    let job = |job: &str| format!(r#"{{"Input":1,"TaskToken":"t","Job":{job}}}"#);
    let long_key = format!(r#"{{"IdempotencyKey":"{}"}}"#, "k".repeat(65));
    for (event, words) in [
        ("[1]".to_owned(), "it is an array"),
        ("7".to_owned(), "it is a number"),
        (r#"{"Input":1,"Input":2,"TaskToken":"t"}"#.to_owned(), "duplicate field"),
        (r#"{"TaskToken":"t"}"#.to_owned(), "Input is missing"),
        (r#"{"Input":1}"#.to_owned(), "TaskToken is missing"),
        (r#"{"Input":1,"TaskToken":null}"#.to_owned(), "TaskToken is missing"),
        (r#"{"Input":1,"TaskToken":7}"#.to_owned(), "TaskToken is a number; it must be a string"),
        (r#"{"Input":1,"TaskToken":""}"#.to_owned(), "the task token is empty"),
        (r#"{"Input":1,"TaskToken":"t","State":7}"#.to_owned(), "State is a number; it must be a string"),
        (r#"{"Input":1,"TaskToken":"t","EnteredTime":[]}"#.to_owned(), "EnteredTime is an array"),
        (r#"{"Input":1,"TaskToken":"t","Attempt":-1}"#.to_owned(), "Attempt must be a whole number"),
        (r#"{"Input":1,"TaskToken":"t","Item":0}"#.to_owned(), "Item must be an array of whole numbers"),
        (r#"{"Input":1,"TaskToken":"t","Item":["0"]}"#.to_owned(), "Item must be an array of whole numbers"),
        (job("[]"), "Job is an array; it must be an object"),
        (job(r#"{"Tenant":"a/b"}"#), "Job.Tenant: the tenant has the character '/'"),
        (job(r#"{"Kind":""}"#), "Job.Kind has 0 characters"),
        (job(r#"{"TimeoutSeconds":0}"#), "Job.TimeoutSeconds must be"),
        (job(r#"{"HeartbeatSeconds":1.5}"#), "Job.HeartbeatSeconds must be"),
        (job(r#"{"HeartbeatSeconds":100000000}"#), "Job.HeartbeatSeconds must be"),
        (job(r#"{"IdempotencyKey":""}"#), "Job.IdempotencyKey must have 1 to 64 characters"),
        (job(r#"{"IdempotencyKey":"a b"}"#), "Job.IdempotencyKey must have 1 to 64 characters"),
        (job(&long_key), "Job.IdempotencyKey must have 1 to 64 characters"),
        (job(r#"{"IdempotencyKey":7}"#), "Job.IdempotencyKey is a number; it must be a string"),
    ] {
        let error = request(&event).unwrap_err().to_string();
        assert!(error.contains(words), "{event}: {error}");
    }
}

#[test]
fn without_the_whole_context_the_key_is_the_job_id() {
    let context = [r#""Execution":"arn:e""#, r#""State":"S""#, r#""EnteredTime":"2026-01-31T12:00:00Z""#];
    for missing in 0..context.len() {
        let rest: Vec<&str> = (0..context.len()).filter(|it| *it != missing).map(|it| context[it]).collect();
        let request = request(&format!(r#"{{"Input":1,"TaskToken":"abc",{}}}"#, rest.join(","))).unwrap();
        assert_eq!(request.idempotency_key(), "ba7816bf8f01cfea414140de5dae2223", "{rest:?}");
    }
}

/// The key of an attempt at a state's entry.
fn key(entry: &(String, String, String, Vec<u64>), token: &str, attempt: u32) -> String {
    let (execution, state, entered_time, item) = entry;
    let event = serde_json::json!({"Input": 1, "TaskToken": token, "Execution": execution, "State": state,
        "EnteredTime": entered_time, "Attempt": attempt, "Item": item});
    request(&event.to_string()).unwrap().idempotency_key()
}

fn entry() -> impl Strategy<Value = (String, String, String, Vec<u64>)> {
    (".{0,20}", ".{0,20}", ".{0,20}", proptest::collection::vec(any::<u64>(), 0..4))
}

proptest! {
    #[test]
    fn all_attempts_at_one_entry_share_a_key(
        entry in entry(), tokens in ("[a-z]{1,20}", "[a-z]{1,20}"), attempts in (0_u32..9, 0_u32..9),
    ) {
        let first = key(&entry, &tokens.0, attempts.0);
        prop_assert_eq!(&first, &key(&entry, &tokens.1, attempts.1));
        prop_assert!(first.len() == 32 && first.bytes().all(|byte| b"0123456789abcdef".contains(&byte)));
    }

    #[test]
    fn two_entries_have_two_keys(one in entry(), other in entry()) {
        prop_assert_eq!(one == other, key(&one, "t", 0) == key(&other, "t", 0));
    }

    #[test]
    fn two_items_two_loop_entries_and_two_executions_have_two_keys(entry in entry(), change in 0_usize..4) {
        let mut other = entry.clone();
        match change {
            0 => other.0.push('x'),
            1 => other.1.push('x'),
            2 => other.2.push('x'),
            _ => other.3.push(0),
        }
        prop_assert_ne!(key(&entry, "t", 0), key(&other, "t", 0));
    }

    #[test]
    fn no_json_makes_the_parser_panic(text in r#"[\[\]{}:,"a-zA-Z0-9. \\-]{0,80}"#) {
        if let Ok(value) = RawValue::from_string(text) {
            let _ = DispatchRequest::parse(&value);
        }
    }
}
