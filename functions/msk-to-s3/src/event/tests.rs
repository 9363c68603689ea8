use proptest::prelude::*;

use super::*;

/// Collects `partition offset timestamp` of each record.
#[derive(Default)]
struct Seen(Vec<String>, String);

impl Records for Seen {
    fn partition(&mut self, partition: Partition) {
        self.1 = format!("{}/{}", partition.topic, partition.number);
    }

    fn record(&mut self, record: &Record<'_>) {
        self.0.push(format!("{} {} {:?}", self.1, record.offset, record.timestamp));
    }
}

fn seen(event: &str) -> Result<Vec<String>, InvalidEvent> {
    let mut seen = Seen::default();
    read(event.as_bytes(), &mut seen).map(|()| seen.0)
}

fn of_records(records: &str) -> Result<Vec<String>, InvalidEvent> {
    seen(&format!(r#"{{"eventSource":"aws:kafka","records":{records}}}"#))
}

#[test]
fn partitions_and_records_are_read_in_the_order_of_the_event() {
    let records =
        r#"{"b-c-1":[{"offset":9,"timestamp":5},{"offset":3}],"a-0":[{"offset":4,"timestamp":-1}]}"#;
    assert_eq!(of_records(records).unwrap(), ["b-c/1 9 Some(5)", "b-c/1 3 None", "a/0 4 None"]);
    assert_eq!(of_records("{}").unwrap(), Vec::<String>::new());
}

#[test]
fn a_record_may_lack_every_member_but_its_offset() {
    for record in [
        r#"{"offset":1}"#,
        r#"{"offset":1,"key":null,"value":null,"headers":null,"timestamp":null,"timestampType":null}"#,
        r#"{"offset":1,"key":7,"value":[],"headers":{"a":1},"timestamp":"x","timestampType":0}"#,
        r#"{"offset":1,"headers":[{"h":[-61,-85,200,300]},{"h":null},7]}"#,
        r#"{"offset":1,"topic":null,"partition":null,"later":{"x":[1,2]}}"#,
        r#"{"offset":1,"topic":"t","partition":0,"\u006bey":"aw=="}"#,
    ] {
        assert_eq!(of_records(&format!(r#"{{"t-0":[{record}]}}"#)).unwrap(), ["t/0 1 None"], "{record}");
    }
}

#[test]
fn an_event_of_another_source_or_shape_is_refused() {
    for event in ["7", "[]", "{}", r#"{"records":{}}"#, r#"{"eventSource":"aws:sqs","records":{}}"#] {
        assert!(seen(event).is_err(), "{event}");
    }
    assert_eq!(seen(r#"{"eventSource":"aws:kafka"}"#), Err(InvalidEvent::Records));
    assert_eq!(seen(r#"{"eventSource":"SelfManagedKafka","records":[]}"#), Err(InvalidEvent::Records));

    for name in ["t", "t-", "-1", "t-x", "t--", "../x-0", "..-0", "t-99999999999", "t-4294967295", "é-0"] {
        assert_eq!(of_records(&format!(r#"{{"{name}":[]}}"#)), Err(InvalidEvent::Partition), "{name}");
    }

    for offset in ["-1", "null", "\"5\"", "1.5", "9223372036854775808"] {
        let records = format!(r#"{{"t-0":[{{"offset":{offset}}}]}}"#);
        assert_eq!(of_records(&records), Err(InvalidEvent::Offset("t-0".into())), "{offset}");
    }

    for record in [r#"{"offset":1,"topic":"u"}"#, r#"{"offset":1,"partition":1}"#] {
        let records = format!(r#"{{"t-0":[{record}]}}"#);
        assert_eq!(of_records(&records), Err(InvalidEvent::Elsewhere("t-0".into())), "{record}");
    }

    assert!(matches!(of_records(r#"{"t-0":{}}"#), Err(InvalidEvent::Shape(_))));
    assert!(matches!(of_records(r#"{"t-0":[7]}"#), Err(InvalidEvent::Shape(_))));
}

#[test]
fn a_topics_name_has_249_bytes_at_most() {
    let records = |bytes: usize| format!(r#"{{"{}-0":[]}}"#, "t".repeat(bytes));
    assert_eq!(of_records(&records(249)), Ok(Vec::new()));
    assert_eq!(of_records(&records(250)), Err(InvalidEvent::Partition));
}

#[test]
fn the_largest_partition_and_offset_of_kafka_are_read() {
    let records = r#"{"t-2147483647":[{"offset":9223372036854775807}]}"#;
    assert_eq!(of_records(records).unwrap(), ["t/2147483647 9223372036854775807 None"]);
    assert_eq!(of_records(r#"{"t-2147483648":[]}"#), Err(InvalidEvent::Partition));
}

/// Collects everything of each record, with its payloads unescaped.
#[derive(Default)]
struct Whole(Vec<String>);

impl Records for Whole {
    fn partition(&mut self, _partition: Partition) {}

    fn record(&mut self, record: &Record<'_>) {
        let plain = |payload: Payload<'_>| match payload {
            Payload::Base64(text) => format!("{:?}", text.unescape()),
            other => format!("{other:?}"),
        };
        let (key, value) = (plain(record.key), plain(record.value));
        let kind = record.timestamp_type.map(crate::json::Text::raw);
        let Record { offset, timestamp, headers, .. } = record;
        self.0.push(format!("{offset} {timestamp:?} {kind:?} {key} {value} {headers:?}"));
    }
}

fn whole(record: &str) -> Vec<String> {
    let event = format!(r#"{{"eventSource":"aws:kafka","records":{{"a-b-7":[{record},{record}]}}}}"#);
    let mut whole = Whole::default();
    read(event.as_bytes(), &mut whole).unwrap();
    whole.0
}

proptest! {
    /// A record as Lambda writes it takes the short way; white space leads it through the general one.
    #[test]
    fn both_ways_to_read_a_record_find_the_same(
        offset in 0..=i64::MAX as u64,
        timestamp in -1_i64..=i64::MAX,
        kind in "CREATE_TIME|LOG_APPEND_TIME|NO_TIMESTAMP_TYPE",
        key in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..60)),
        value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..60)),
        escaped in any::<bool>(),
        headers in r#"\[\]|\[\{"h":\[1\]\}\]"#,
    ) {
        let payload = |name: &str, bytes: Option<Vec<u8>>| {
            let text = bytes.map(|bytes| base64_simd::STANDARD.encode_to_string(bytes));
            let text = text.map(|text| if escaped { text.replace('/', "\\/") } else { text });
            text.map_or(String::new(), |text| format!(r#","{name}":"{text}""#))
        };
        let (key, value) = (payload("key", key), payload("value", value));
        let usual = format!(
            r#"{{"topic":"a-b","partition":7,"offset":{offset},"timestamp":{timestamp},"timestampType":"{kind}"{key}{value},"headers":{headers}}}"#
        );

        prop_assert_eq!(whole(&usual), whole(&usual.replacen('{', "{ ", 1)));
    }
}
