use super::*;
use crate::event::TimestampType;

fn invocation_record(condition: Condition, history: History) -> (InvocationRecord, Value) {
    let origin = Origin::new("t", "b");
    let record = |(partition, offset, time)| Record {
        partition,
        offset,
        timestamp: (time, TimestampType::CreateTime),
        key: None,
        value: Some("v".into()),
        headers: vec![],
    };

    let records = [(0, 4, 1_573_691_884_835), (0, 6, 1_573_691_885_000), (1, 9, -1)].map(record);
    let given_up = InvocationRecord::new(&origin, "f", &records, condition, history).unwrap();
    let json = serde_json::to_value(&given_up).unwrap();
    (given_up, json)
}

#[test]
fn an_invocation_record_has_the_members_that_lambda_documents() {
    let history = History { invocations: 3, failed: true };
    let (record, mut json) = invocation_record(Condition::RetryAttemptsExhausted, history);

    let payload: Value = serde_json::from_str(&record.payload).unwrap();
    assert_eq!(payload["records"]["t-0"].as_array().unwrap().len(), 2);

    let time: Timestamp = json["timestamp"].as_str().unwrap().parse().unwrap();

    assert_eq!(time.as_millisecond(), record.place.time.as_millisecond());
    json["timestamp"].take();
    assert_eq!(
        json,
        json!({
            "requestContext": {"functionArn": "f", "condition": "RetryAttemptsExhausted",
                "approximateInvokeCount": 3},
            "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
            "version": "1.0",
            "timestamp": null,
            "KafkaBatchInfo": {"batchSize": 3, "bootstrapServers": "b", "payloadSize": record.payload.len(),
                "recordsInfo": {
                    "t-0": {"firstRecordOffset": "4", "lastRecordOffset": "6",
                        "firstRecordTimestamp": "2019-11-14T00:38:04.835Z",
                        "lastRecordTimestamp": "2019-11-14T00:38:05.000Z"},
                    "t-1": {"firstRecordOffset": "9", "lastRecordOffset": "9",
                        "firstRecordTimestamp": "", "lastRecordTimestamp": ""}}},
            "payload": record.payload,
        })
    );
}

#[test]
fn the_response_context_is_null_if_the_function_was_not_invoked() {
    let response =
        |history| invocation_record(Condition::RecordAgeExceeded, history).1["responseContext"].take();
    assert_eq!(response(History::default()), Value::Null);

    let partial = response(History { invocations: 1, failed: false });
    assert_eq!(partial, json!({"statusCode": 200, "executedVersion": "$LATEST"}));
}

#[tokio::test]
async fn a_file_has_one_line_for_each_invocation_record() {
    let mut dead_letters = DeadLetters::File(tempfile::tempfile().unwrap());
    let record = invocation_record(Condition::RecordAgeExceeded, History::default()).0;
    dead_letters.keep(&record).await.unwrap();
    dead_letters.keep(&record).await.unwrap();

    let DeadLetters::File(mut file) = dead_letters else { panic!("it was a file") };
    io::Seek::rewind(&mut file).unwrap();
    let text = io::read_to_string(file).unwrap();
    assert_eq!(text, format!("{0}\n{0}\n", serde_json::to_string(&record).unwrap()));
}

#[test]
fn a_random_uuid_has_version_4() {
    let uuid = random_uuid();
    assert_ne!(uuid, random_uuid());

    let lengths: Vec<usize> = uuid.split('-').map(str::len).collect();
    assert_eq!(lengths, [8, 4, 4, 4, 12]);
    assert_eq!(&uuid[14..15], "4");
    assert!("89ab".contains(&uuid[19..20]), "{uuid}");
}
