use super::*;
use crate::event::{Decoded, TimestampType};

fn invocation_record(condition: Condition, history: History) -> (InvocationRecord, Value) {
    let origin = Origin::new("t", "b");
    let record = |(partition, offset, time)| Record {
        partition,
        offset,
        timestamp: (time, TimestampType::CreateTime),
        key: Some(format!("key {offset}").into()),
        value: Some("v".into()),
        headers: vec![],
        decoded: Decoded::default(),
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

    assert_eq!(time.as_millisecond(), record.time.as_millisecond());
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

#[test]
fn a_topic_gets_the_event_as_json_and_one_record_with_its_key() {
    let history = History { invocations: 3, failed: true };
    let (record, whole) = invocation_record(Condition::DeserializationError, history);

    let message: Value = serde_json::from_slice(&record.topic_message().unwrap()).unwrap();
    assert_eq!(record.key.as_deref(), Some(b"key 4".as_slice()));
    assert_eq!(message["requestContext"]["condition"], "DESERIALIZATION_ERROR");
    assert_eq!(message["payload"], serde_json::from_str::<Value>(&record.payload).unwrap());
    assert_eq!(message["responseContext"], whole["responseContext"]);

    let info = &message["KafkaBatchInfo"];
    assert_eq!(info["recordInfo"], json!({"offset": "4", "timestamp": "2019-11-14T00:38:04.835Z"}));
    assert_eq!(info.get("recordsInfo"), None);
}
