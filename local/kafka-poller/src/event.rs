//! The records of a broker, and the event that Lambda builds from them.

use std::collections::BTreeMap;

use serde::Serialize;

/// A record of the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The partition's number.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The time in milliseconds since 1970, or -1 if the record has no timestamp, and the clock that it comes from.
    pub timestamp: (i64, TimestampType),
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// The headers, in their order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// What a schema registry made of the key and the value; empty without a registry.
    pub decoded: Decoded,
}

/// The parts of a record that were decoded with a schema. The function gets them in the place of the bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decoded {
    /// The key.
    pub key: Option<Part>,
    /// The value.
    pub value: Option<Part>,
}

/// A key or a value that was decoded with a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The JSON text.
    pub json: Vec<u8>,
    /// The schema that the producer named.
    pub schema: SchemaMetadata,
}

/// A schema, as an event describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SchemaMetadata {
    /// The format, for example `AVRO`.
    pub data_format: &'static str,
    /// The schema's number in the registry.
    pub schema_id: String,
}

/// The clock of a record's timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TimestampType {
    /// The producer's clock.
    CreateTime,
    /// The broker's clock.
    LogAppendTime,
    /// The record has no timestamp.
    NoTimestampType,
}

impl Record {
    /// The key that the function gets: decoded if there is a schema registry, else the record's bytes.
    pub fn event_key(&self) -> Option<&[u8]> {
        let decoded = self.decoded.key.as_ref().map(|part| part.json.as_slice());
        decoded.or(self.key.as_deref())
    }

    /// The value that the function gets: decoded if there is a schema registry, else the record's bytes.
    pub fn event_value(&self) -> Option<&[u8]> {
        let decoded = self.decoded.value.as_ref().map(|part| part.json.as_slice());
        decoded.or(self.value.as_deref())
    }

    /// An upper bound on the record's bytes in an event: base64 turns three bytes into four, a header's byte becomes up to
    /// five characters, and names, numbers and the two schemas take the rest.
    pub fn event_bytes(&self, topic: &str) -> usize {
        let base64 = |bytes: Option<&[u8]>| bytes.map_or(4, |bytes| bytes.len().div_ceil(3) * 4 + 2);
        let headers: usize = self
            .headers
            .iter()
            .map(|(name, value)| 6 * name.len() + 8 + 5 * value.as_ref().map_or(1, Vec::len))
            .sum();
        400 + topic.len() + base64(self.event_key()) + base64(self.event_value()) + headers
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'r> {
    #[serde(rename = "eventSource")]
    source: &'static str,
    #[serde(rename = "eventSourceArn", skip_serializing_if = "Option::is_none")]
    arn: Option<&'r str>,
    bootstrap_servers: &'r str,
    records: BTreeMap<String, Vec<EventRecord<'r>>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EventRecord<'r> {
    topic: &'r str,
    partition: i32,
    offset: i64,
    timestamp: i64,
    timestamp_type: TimestampType,
    key: Option<String>,
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_schema_metadata: Option<&'r SchemaMetadata>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_schema_metadata: Option<&'r SchemaMetadata>,
    headers: Vec<BTreeMap<&'r str, Option<Vec<i8>>>>,
}

/// The source of records, as an event describes it.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The topic.
    pub topic: String,
    /// The broker's address.
    pub bootstrap_servers: String,
    /// The ARN of the MSK cluster or VPC connection that the broker stands for; `None` for a self-managed cluster.
    pub arn: Option<String>,
}

impl Origin {
    /// A topic of a self-managed cluster.
    pub fn new(topic: impl Into<String>, bootstrap_servers: impl Into<String>) -> Self {
        Self { topic: topic.into(), bootstrap_servers: bootstrap_servers.into(), arn: None }
    }

    /// A partition's name in an event, `topic-partition`.
    pub fn name(&self, partition: i32) -> String {
        format!("{}-{partition}", self.topic)
    }

    /// The event of a batch.
    pub fn event(&self, batch: &[Record]) -> serde_json::Result<Vec<u8>> {
        let mut records: BTreeMap<String, Vec<EventRecord<'_>>> = BTreeMap::new();
        for record in batch {
            let encode = |bytes: &[u8]| base64_simd::STANDARD.encode_to_string(bytes);
            records.entry(self.name(record.partition)).or_default().push(EventRecord {
                topic: &self.topic,
                partition: record.partition,
                offset: record.offset,
                timestamp: record.timestamp.0,
                timestamp_type: record.timestamp.1,
                key: record.event_key().map(encode),
                value: record.event_value().map(encode),
                key_schema_metadata: record.decoded.key.as_ref().map(|part| &part.schema),
                value_schema_metadata: record.decoded.value.as_ref().map(|part| &part.schema),
                headers: record.headers.iter().map(|(name, value)| header(name, value.as_deref())).collect(),
            });
        }

        serde_json::to_vec(&Event {
            source: if self.arn.is_some() { "aws:kafka" } else { "SelfManagedKafka" },
            arn: self.arn.as_deref(),
            bootstrap_servers: &self.bootstrap_servers,
            records,
        })
    }
}

/// A header as Lambda sends it, with Java's signed bytes.
fn header<'r>(name: &'r str, value: Option<&[u8]>) -> BTreeMap<&'r str, Option<Vec<i8>>> {
    BTreeMap::from([(name, value.map(|bytes| bytes.iter().map(|byte| byte.cast_signed()).collect()))])
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A part of `bytes` bytes, with the longest schema id.
    fn part(bytes: usize) -> Part {
        let schema = SchemaMetadata { data_format: "AVRO", schema_id: u32::MAX.to_string() };
        Part { json: vec![7; bytes], schema }
    }

    #[test]
    fn a_decoded_record_has_its_json_and_its_schemas_in_the_event() {
        let schema = |id: &str| SchemaMetadata { data_format: "AVRO", schema_id: id.into() };
        let record = Record {
            partition: 0,
            offset: 1,
            timestamp: (5, TimestampType::CreateTime),
            key: Some(vec![0, 0, 0, 0, 3, 2]),
            value: Some(vec![0, 0, 0, 0, 4, 2]),
            headers: vec![],
            decoded: Decoded { key: None, value: Some(Part { json: b"1".to_vec(), schema: schema("4") }) },
        };

        let event: Value = serde_json::from_slice(&Origin::new("t", "b").event(&[record]).unwrap()).unwrap();
        let sent = &event["records"]["t-0"][0];
        assert_eq!((&sent["key"], &sent["value"]), (&json!("AAAAAAMC"), &json!("MQ==")));
        assert_eq!(sent["valueSchemaMetadata"], json!({"dataFormat": "AVRO", "schemaId": "4"}));
        assert_eq!(sent.get("keySchemaMetadata"), None, "the key was not decoded");
    }

    #[test]
    fn an_event_is_built_as_lambda_builds_it() {
        let origin = Origin::new("a-b", "127.0.0.1:9092");
        let record = Record {
            partition: 2,
            offset: 7,
            timestamp: (5, TimestampType::CreateTime),
            key: None,
            value: Some("é".into()),
            headers: vec![("h".into(), Some("ë".into())), ("n".into(), None)],
            decoded: Decoded::default(),
        };
        let event: Value =
            serde_json::from_slice(&origin.event(std::slice::from_ref(&record)).unwrap()).unwrap();
        assert_eq!(
            event,
            json!({"eventSource": "SelfManagedKafka", "bootstrapServers": "127.0.0.1:9092", "records": {"a-b-2": [
                {"topic": "a-b", "partition": 2, "offset": 7, "timestamp": 5, "timestampType": "CREATE_TIME",
                 "key": null, "value": "w6k=", "headers": [{"h": [-61, -85]}, {"n": null}]}]}})
        );

        let arn = "arn:aws:kafka:eu-west-1:1:cluster/c/1";
        let managed = Origin { arn: Some(arn.into()), ..origin }.event(&[]).unwrap();
        assert_eq!(
            serde_json::from_slice::<Value>(&managed).unwrap(),
            json!({"eventSource": "aws:kafka", "eventSourceArn": arn, "bootstrapServers": "127.0.0.1:9092",
                "records": {}})
        );
    }

    #[test]
    fn a_records_size_in_an_event_is_not_underestimated() {
        let origin = Origin::new("t".repeat(249), "");
        let record = Record {
            partition: i32::MAX,
            offset: i64::MAX,
            timestamp: (i64::MAX, TimestampType::NoTimestampType),
            key: Some(vec![7; 100]),
            value: Some(vec![7; 1001]),
            headers: vec![("\u{1}\"".into(), Some(vec![0x80; 50])); 20],
            decoded: Decoded { key: Some(part(300)), value: Some(part(2_000)) },
        };
        let envelope = origin.event(&[]).unwrap().len() + origin.topic.len() + 20;
        let of = |records: &[Record]| origin.event(records).unwrap().len();
        assert!(of(std::slice::from_ref(&record)) <= envelope + record.event_bytes(&origin.topic));
        assert!(of(&vec![record.clone(); 9]) <= envelope + 9 * record.event_bytes(&origin.topic));
    }
}
