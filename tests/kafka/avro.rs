//! Avro records through registry, broker, poller and function. The records are written by two independent encoders.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as STANDARD;
use postern_demos::kafka::broker::{Produced, create_topic, produce};
use postern_demos::kafka::reader::Reading;
use postern_kafka_poller::avro::Schema;
use postern_kafka_poller::source::{EVENT_BYTES, committed};
use postern_schema_registry::Registry;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::kills::run_python;
use crate::parts::{
    BUCKET, GROUP, Kafka, PARTITIONS, TOPIC, bucket, lambda, offsets, place, poller, until_committed,
};
use crate::s3::S3;

/// A record in the encodings of `avro/vectors.py`.
#[derive(Deserialize)]
struct Vector {
    name: String,
    schema: String,
    json: Value,
    /// The record's bytes in hexadecimal, by encoder.
    encoded: BTreeMap<String, String>,
}

fn vectors() -> Vec<Vector> {
    serde_json::from_str(&run_python(include_str!("avro/vectors.py"), "")).unwrap()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digit).collect()
}

/// A value as a producer writes it: a zero byte, the schema's number and the record.
fn framed(id: u32, record: &[u8]) -> Vec<u8> {
    [&[0], id.to_be_bytes().as_slice(), record].concat()
}

/// Starts a registry and returns its URL.
async fn registry() -> String {
    let address = Registry::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
    format!("http://{address}")
}

/// Registers a schema of this format, and returns its number.
async fn register(registry: &str, schema: &str, format: &str) -> u32 {
    let body = json!({"schema": schema, "schemaType": format}).to_string();
    let url = format!("{registry}/subjects/{TOPIC}-value/versions");
    let post = move || ureq::post(&url).send(&body).unwrap().body_mut().read_to_string().unwrap();
    let answer: Value = serde_json::from_str(&tokio::task::spawn_blocking(post).await.unwrap()).unwrap();
    u32::try_from(answer["id"].as_u64().unwrap()).unwrap()
}

#[test]
fn every_avro_type_of_two_encoders_is_read_as_its_json() {
    let mut types = BTreeSet::new();
    for Vector { name, schema, json, encoded } in vectors() {
        assert_eq!(encoded.len(), 2);
        types.extend(names_of_types(&serde_json::from_str(&schema).unwrap()));

        let parsed = Schema::parse(&schema).unwrap();
        for (encoder, hex) in encoded {
            let read = parsed.json(&bytes(&hex), EVENT_BYTES).unwrap();
            let read: Value = serde_json::from_slice(&read).unwrap();
            assert_eq!(read, json, "{name}, written by {encoder}");
        }
    }

    let all = [
        "array", "boolean", "bytes", "double", "enum", "fixed", "float", "int", "long", "map", "null",
        "record", "string", "union",
    ];
    assert!(all.iter().all(|name| types.contains(*name)), "{types:?}");
}

/// The names of the types in a schema.
fn names_of_types(schema: &Value) -> BTreeSet<String> {
    match schema {
        Value::String(name) => BTreeSet::from([name.clone()]),
        Value::Array(choices) => {
            let union = BTreeSet::from(["union".to_owned()]);
            choices.iter().flat_map(names_of_types).chain(union).collect()
        }
        Value::Object(members) => {
            let fields = members.get("fields").and_then(Value::as_array).into_iter().flatten();
            let types = ["type", "items", "values"].into_iter().filter_map(|name| members.get(name));
            types.chain(fields).flat_map(names_of_types).collect()
        }
        other => panic!("{other} is no schema"),
    }
}

/// Produces values to the topic; the partitions take turns. The record with the number n has the key `key n`.
fn fill(kafka: &Kafka, values: &[Option<Vec<u8>>]) {
    let keys: Vec<String> = (0..values.len()).map(|number| format!("key {number}")).collect();
    let records = values.iter().enumerate().map(|(number, value)| Produced {
        partition: Some(place(number).0),
        key: &keys[number],
        value: value.as_deref(),
    });
    produce(&kafka.origin.bootstrap_servers, TOPIC, records).unwrap();
}

/// The keys and the values of the first messages of a topic with one partition.
async fn read(broker: &str, topic: &str, messages: usize) -> Vec<(String, Value)> {
    let consumer: StreamConsumer =
        ClientConfig::new().set("bootstrap.servers", broker).set("group.id", "reader").create().unwrap();
    let mut partition = TopicPartitionList::new();
    partition.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
    consumer.assign(&partition).unwrap();

    let mut read = Vec::new();
    while read.len() < messages {
        let message = consumer.recv().await.unwrap();
        let key = String::from_utf8(message.key().unwrap().to_vec()).unwrap();
        read.push((key, serde_json::from_slice(message.payload().unwrap()).unwrap()));
    }
    read
}

/// The rows that the function must write for the customers below the limit: id, name, city, and the schema's number.
fn rows(customers: &[&Vector], limit: usize, id: u32) -> BTreeMap<(i32, i64), Vec<String>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let row = |(number, customer): (usize, &&Vector)| {
        let json = &customer.json;
        let fields =
            [json["id"].to_string(), text(&json["name"]), text(&json["home"]["city"]), id.to_string()];
        (place(number), fields.to_vec())
    };
    customers.iter().enumerate().take(limit).map(row).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn avro_records_become_rows_and_what_cannot_be_decoded_goes_to_the_failure_topic() {
    let folder = tempfile::tempdir().unwrap();
    let kafka = Kafka::start(&folder.path().join("broker")).await;
    create_topic(&kafka.origin.bootstrap_servers, "failed", 1).await.unwrap();
    let (_s3, endpoint) = S3::start(None).await;
    let client = bucket(&endpoint).await;
    let config = [
        ("RECORD_FORMAT", "json"),
        ("CSV_COLUMNS", "id:int64,name,city=home.city"),
        ("CSV_METADATA_COLUMNS", "value_schema_id,topic,partition,offset,timestamp"),
        ("KEY_PREFIX", "in"),
    ];
    let lambda = lambda(&endpoint, &config).await;

    let all = vectors();
    let customers: Vec<&Vector> = all.iter().filter(|vector| vector.name.starts_with("customer")).collect();
    let registry = registry().await;
    register(&registry, "\"string\"", "AVRO").await;
    let id = register(&registry, &customers[0].schema, "AVRO").await;

    // The encoders take turns. The last customer is filtered out, which only its decoded value tells.
    let encoded = |(number, customer): (usize, &&Vector)| {
        let record = bytes(&customer.encoded[["avro", "fastavro"][number % 2]]);
        Some(framed(id, &record))
    };
    let mut values: Vec<_> = customers.iter().enumerate().map(encoded).collect();
    let whole = values[0].clone().unwrap();
    let bad = values.len();
    values.push(Some(framed(99, &whole[5..])));
    values.push(Some([&[1], &whole[1..]].concat()));
    values.push(Some(whole[..whole.len() - 1].to_vec()));
    values.push(None);
    fill(&kafka, &values);

    let filter = format!(r#"{{"value":{{"id":[{{"numeric":["<",{}]}}]}}}}"#, customers[bad - 1].json["id"]);
    let options = ["--schema-registry", &registry, "--on-failure", "kafka://failed", "--filter", &filter];
    let _process = poller(&kafka.origin, &lambda.endpoint(), &endpoint, &options);
    until_committed(&kafka.origin, &offsets(values.len())).await;

    let reading = Reading::of(&client, BUCKET, "in/").await.unwrap();
    assert_eq!(reading.records, rows(&customers, bad - 1, id));

    let mut failed = read(&kafka.origin.bootstrap_servers, "failed", 3).await;
    failed.sort_by(|one, other| one.0.cmp(&other.0));
    let conditions = ["SCHEMA_NOT_FOUND", "DESERIALIZATION_ERROR", "DESERIALIZATION_ERROR"];
    for (number, ((key, message), condition)) in (bad..).zip(failed.iter().zip(conditions)) {
        let (partition, offset) = place(number);
        let record = &message["payload"]["records"][format!("{TOPIC}-{partition}")][0];
        let value = STANDARD.encode(values[number].as_deref().unwrap());
        assert_eq!((key, &record["value"]), (&format!("key {number}"), &json!(value)), "as it was produced");
        assert_eq!(message["requestContext"]["condition"], condition);
        assert_eq!(message["KafkaBatchInfo"]["recordInfo"]["offset"], offset.to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_only_aws_decodes_ends_the_poller_and_no_record_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let kafka = Kafka::start(&folder.path().join("broker")).await;
    let registry = registry().await;
    let id = register(&registry, "syntax = \"proto3\";", "PROTOBUF").await;
    fill(&kafka, &[Some(framed(id, &[0]))]);

    let file = folder.path().join("dead-letters.jsonl");
    let options = ["--schema-registry", &registry, "--dead-letters", file.to_str().unwrap()];
    let mut process = poller(&kafka.origin, "http://127.0.0.1:9", "http://127.0.0.1:9", &options);
    assert!(!process.wait().await.unwrap().success());

    assert_eq!(committed(&kafka.origin, GROUP, PARTITIONS).unwrap(), offsets(0));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "");
}
