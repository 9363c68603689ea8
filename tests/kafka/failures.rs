//! Records that cannot be processed, and the memory that a full batch needs.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_sdk_s3::Client;
use postern_demos::kafka::broker::{Produced, produce};
use postern_demos::kafka::customers::{COLUMNS, customers};
use postern_demos::kafka::reader::Reading;
use postern_kafka_poller::dead_letters::{Bucket, DeadLetters, Destination as _, Topic};
use postern_kafka_poller::event::{Decoded, Origin, Record, TimestampType};
use postern_kafka_poller::invocation_record::{Condition, History, InvocationRecord};
use postern_kafka_poller::invoke::Lambda;
use postern_kafka_poller::mapping::{Function as _, Outcome};
use postern_kafka_poller::source::{EVENT_BYTES, Limits, Source, Start, committed};
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use serde_json::Value;

use crate::parts::{
    BUCKET, GROUP, Kafka, PARTITIONS, TOPIC, bucket, lambda, offsets, place, poller, release_build,
    until_committed,
};
use crate::s3::S3;

/// The invocation records under a prefix of the bucket, with their keys.
async fn dead_letters(s3: &Client, prefix: &str) -> Vec<(String, Value)> {
    let list = s3.list_objects_v2().bucket(BUCKET).prefix(prefix).send().await.unwrap();
    let mut dead_letters = Vec::new();

    for key in list.contents().iter().map(|object| object.key().unwrap()) {
        let object = s3.get_object().bucket(BUCKET).key(key).send().await.unwrap();
        let body = object.body.collect().await.unwrap().into_bytes();
        dead_letters.push((key.to_owned(), serde_json::from_slice(&body).unwrap()));
    }
    dead_letters
}

/// The partition and offset of each Kafka record in an invocation record.
fn places(record: &Value) -> Vec<(i32, i64)> {
    let payload: Value = serde_json::from_str(record["payload"].as_str().unwrap()).unwrap();
    let partitions = payload["records"].as_object().unwrap();
    let number = |record: &Value, name: &str| record[name].as_i64().unwrap();
    let place =
        |record: &Value| (i32::try_from(number(record, "partition")).unwrap(), number(record, "offset"));
    partitions.values().flat_map(|records| records.as_array().unwrap()).map(place).collect()
}

/// Produces a record for each line, in the partitions that [`place`] names.
fn produce_lines(kafka: &Kafka, lines: &[String]) {
    let records = lines.iter().enumerate().map(|(number, line)| Produced {
        partition: Some(place(number).0),
        key: "k",
        value: Some(line.as_bytes()),
    });
    produce(&kafka.origin.bootstrap_servers, TOPIC, records).unwrap();
}

#[tokio::test]
async fn bad_records_are_given_up_after_their_retries_and_the_others_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let kafka = Kafka::start(&folder.path().join("broker")).await;
    let (_s3, endpoint) = S3::start(None).await;
    let client = bucket(&endpoint).await;
    let columns = COLUMNS.join(",");
    let config = [("CSV_COLUMNS", &*columns), ("CSV_METADATA_COLUMNS", "true"), ("KEY_PREFIX", "in")];
    let lambda = lambda(&endpoint, &config).await;

    let bad = |number: usize| number % 100 == 7;
    let customers = customers(1).take(900).enumerate();
    let lines: Vec<String> = customers
        .map(|(number, customer)| if bad(number) { "an open \"quote".to_owned() } else { customer.line() })
        .collect();
    produce_lines(&kafka, &lines);

    let failed = format!("s3://{BUCKET}/failed");
    let options =
        ["--batch-size", "150", "--maximum-retry-attempts", "2", "--on-failure", &failed, "--uuid", "u-1"];
    let _process = poller(&kafka.origin, &lambda.endpoint(), &endpoint, &options);
    until_committed(&kafka.origin, &offsets(900)).await;

    let reading = Reading::of(&client, BUCKET, "in/").await.unwrap();
    let good: BTreeSet<_> = (0..900).filter(|number| !bad(*number)).map(place).collect();
    assert_eq!(reading.rows, good.len(), "a named record is sent again alone, so no row is written twice");
    assert_eq!(reading.records.into_keys().collect::<BTreeSet<_>>(), good);

    let mut expected: Vec<_> = (0..900).filter(|number| bad(*number)).map(place).collect();
    expected.sort_unstable();
    assert_eq!(given_up_after_retries(&client).await, expected);
}

/// The value of a property of the template's event source mapping.
fn mapping_property(name: &str) -> String {
    let template = include_str!("../../template.yml");
    let mapping = template.split("\n  MskToS3Source:\n").nth(1).unwrap();
    let lines = mapping.lines().take_while(|line| line.is_empty() || line.starts_with("    "));
    let value = lines.into_iter().find_map(|line| line.trim().strip_prefix(&format!("{name}: ")));
    value.unwrap_or_else(|| panic!("the mapping has no {name}")).to_owned()
}

#[tokio::test]
async fn a_partition_that_fails_comes_again_whole_and_nothing_is_written_twice() {
    let folder = tempfile::tempdir().unwrap();
    let kafka = Kafka::start(&folder.path().join("broker")).await;
    let (s3, endpoint) = S3::start(None).await;
    let client = bucket(&endpoint).await;
    let lambda = lambda(&endpoint, &[("CSV_METADATA_COLUMNS", "true"), ("KEY_PREFIX", "in")]).await;

    let lines: Vec<String> = (0..600).map(|number| format!("line {number}")).collect();
    produce_lines(&kafka, &lines);

    // As often as the client of one invocation tries, so the first invocation fails, and for two partitions it writes.
    s3.refuse_next(&format!("/{TOPIC}/1/"), 3);
    let (size, retries) = (mapping_property("BatchSize"), mapping_property("MaximumRetryAttempts"));
    let file = folder.path().join("dead-letters.jsonl");
    let mut options = vec!["--batch-size", &size, "--maximum-retry-attempts", &retries];
    options.extend(["--dead-letters", file.to_str().unwrap()]);
    if mapping_property("BisectBatchOnFunctionError") == "true" {
        options.push("--bisect-batch-on-function-error");
    }
    let _process = poller(&kafka.origin, &lambda.endpoint(), &endpoint, &options);
    until_committed(&kafka.origin, &offsets(600)).await;

    assert_eq!(s3.counts.refused.load(Ordering::Relaxed), 3);
    let reading = Reading::of(&client, BUCKET, "in/").await.unwrap();
    assert_eq!((reading.records.len(), reading.rows), (600, 600), "each record is in one object");
}

#[tokio::test]
async fn a_batch_that_is_given_up_leaves_nothing_out_and_nothing_twice_once_it_is_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let kafka = Kafka::start(&folder.path().join("broker")).await;
    let (s3, endpoint) = S3::start(None).await;
    let client = bucket(&endpoint).await;
    let lambda = lambda(&endpoint, &[("CSV_METADATA_COLUMNS", "true"), ("KEY_PREFIX", "in")]).await;

    let lines: Vec<String> = (0..600).map(|number| format!("line {number}")).collect();
    produce_lines(&kafka, &lines);

    // As often as the clients of an invocation and of its retry try, so S3 stores one partition of the batch never.
    s3.refuse_next(&format!("/{TOPIC}/1/"), 6);
    let (size, file) = (mapping_property("BatchSize"), folder.path().join("dead-letters.jsonl"));
    let options = ["--batch-size", &size, "--maximum-retry-attempts", "1", "--dead-letters"];
    let options = [&options[..], &[file.to_str().unwrap()]].concat();
    let _process = poller(&kafka.origin, &lambda.endpoint(), &endpoint, &options);
    until_committed(&kafka.origin, &offsets(600)).await;

    let record: Value = serde_json::from_str(std::fs::read_to_string(&file).unwrap().trim()).unwrap();
    let given_up: BTreeSet<_> = places(&record).into_iter().collect();
    let reading = Reading::of(&client, BUCKET, "in/").await.unwrap();
    assert!(given_up.iter().any(|place| !reading.records.contains_key(place)), "a record is not written");
    let known: BTreeSet<_> = reading.records.into_keys().chain(given_up).collect();
    assert_eq!(known.len(), 600, "each record is in an object, or in the batch that was given up");

    // What `make redrive` does.
    let event = record["payload"].as_str().unwrap().as_bytes().to_vec();
    let mut function = Lambda::new(&lambda.endpoint(), "msk-to-s3", None).unwrap();
    assert_eq!(function.invoke(event).await, Outcome::Processed);
    let reading = Reading::of(&client, BUCKET, "in/").await.unwrap();
    assert_eq!((reading.records.len(), reading.rows), (600, 600), "each record is in one object");
}

/// Checks the invocation records under `failed/`. Returns the places of their Kafka records in order.
async fn given_up_after_retries(s3: &Client) -> Vec<(i32, i64)> {
    let mut given_up = Vec::new();
    for (key, record) in dead_letters(s3, "failed/").await {
        assert!(key.starts_with(&format!("failed/aws/lambda/u-1/{TOPIC}/20")), "{key}");
        assert_eq!(record["requestContext"]["condition"], "RetryAttemptsExhausted");
        assert_eq!(record["requestContext"]["approximateInvokeCount"], 3);
        assert_eq!(record["KafkaBatchInfo"]["batchSize"], places(&record).len());
        given_up.extend(places(&record));
    }
    given_up.sort_unstable();
    given_up
}

#[tokio::test]
async fn a_record_that_is_too_old_is_given_up_without_an_invocation() {
    let folder = tempfile::tempdir().unwrap();
    let kafka = Kafka::start(&folder.path().join("broker")).await;
    let (_s3, endpoint) = S3::start(None).await;
    let client = bucket(&endpoint).await;
    let lambda = lambda(&endpoint, &[("CSV_METADATA_COLUMNS", "true"), ("KEY_PREFIX", "in")]).await;

    let producer: ThreadedProducer<_> = ClientConfig::new()
        .set("bootstrap.servers", &kafka.origin.bootstrap_servers)
        .set("max.in.flight.requests.per.connection", "1")
        .create()
        .unwrap();
    let now = jiff::Timestamp::now().as_millisecond();
    // The ages are 20 minutes on either side of the limit of an hour, so the duration of the test does not matter.
    let old = |number: usize| number.is_multiple_of(4);
    for number in 0..12 {
        let minutes = if old(number) { 80 } else { 40 };
        let record = BaseRecord::to(TOPIC).partition(place(number).0).key("k").payload("a line");
        producer.send(record.timestamp(now - minutes * 60_000)).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(Duration::from_mins(1)).unwrap();

    let file = folder.path().join("dead-letters.jsonl");
    let options = ["--maximum-record-age-in-seconds", "3600", "--dead-letters", file.to_str().unwrap()];
    let _process = poller(&kafka.origin, &lambda.endpoint(), &endpoint, &options);
    until_committed(&kafka.origin, &offsets(12)).await;

    let reading = Reading::of(&client, BUCKET, "in/").await.unwrap();
    let expected: BTreeSet<_> = (0..12).filter(|number| !old(*number)).map(place).collect();
    assert_eq!(reading.records.into_keys().collect::<BTreeSet<_>>(), expected);

    let mut given_up = BTreeSet::new();
    for record in std::fs::read_to_string(&file).unwrap().lines() {
        let record: Value = serde_json::from_str(record).unwrap();
        assert_eq!(record["requestContext"]["condition"], "RecordAgeExceeded");
        assert_eq!(record["responseContext"], Value::Null);
        given_up.extend(places(&record));
    }
    assert_eq!(given_up, (0..12).filter(|number| old(*number)).map(place).collect());
}

#[tokio::test]
async fn an_invocation_record_is_sent_until_the_bucket_has_stored_it() {
    let (s3, endpoint) = S3::start(Some(7)).await;
    let client = bucket(&endpoint).await;
    let place = Bucket::open(client.clone(), &format!("s3://{BUCKET}"), "u-1").await.unwrap();
    let mut destination = DeadLetters::S3(place);

    let origin = Origin::new(TOPIC, "b");
    let timestamp = (0, TimestampType::CreateTime);
    for offset in 0..8 {
        let record = Record {
            partition: 0,
            offset,
            timestamp,
            key: None,
            value: None,
            headers: Vec::new(),
            decoded: Decoded::default(),
        };
        let record =
            InvocationRecord::new(&origin, "f", &[record], Condition::RecordAgeExceeded, History::default())
                .unwrap();
        destination.keep(&record).await.unwrap();
        // When `keep` returns, the record must be stored.
        let kept = dead_letters(&client, "aws/lambda/u-1/").await;
        assert!(kept.iter().any(|(_, record)| places(record) == [(0, offset)]), "{offset}");
    }

    let refused = s3.counts.refused.load(Ordering::Relaxed);
    assert!(refused > 0, "S3 must refuse at least one put with this seed");
}

#[tokio::test]
async fn an_on_failure_destination_that_does_not_exist_is_an_error_at_the_start() {
    let (_s3, endpoint) = S3::start(None).await;
    let client = bucket(&endpoint).await;
    for (url, why) in [("bucket", "is not s3://bucket"), ("s3://", "is not s3://"), ("s3://absent", "404")] {
        let error = Bucket::open(client.clone(), url, "u").await.unwrap_err().to_string();
        assert!(error.contains(why), "{url}: {error}");
    }
}

#[tokio::test]
async fn a_failure_topic_must_exist_and_must_not_be_the_one_that_is_polled() {
    let folder = tempfile::tempdir().unwrap();
    let kafka = Kafka::start(&folder.path().join("broker")).await;
    for (url, why) in [
        ("topic", "is not kafka://topic"),
        ("kafka://", "is not kafka://topic"),
        ("kafka://absent", "does not exist"),
        ("kafka://customer", "is the topic that is polled"),
    ] {
        let error = Topic::open(&kafka.origin, url).err().unwrap().to_string();
        assert!(error.contains(why), "{url}: {error}");
    }
}

#[tokio::test]
async fn a_poller_that_receives_a_signal_ends_without_committing() {
    let folder = tempfile::tempdir().unwrap();
    let kafka = Kafka::start(&folder.path().join("broker")).await;

    let record = Produced { partition: Some(0), key: "k", value: Some(b"a line") };
    produce(&kafka.origin.bootstrap_servers, TOPIC, [record]).unwrap();

    // A Lambda endpoint that accepts the event and never answers.
    let lambda = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", lambda.local_addr().unwrap());
    let file = folder.path().join("dead-letters.jsonl");

    for signal in ["TERM", "INT"] {
        let mut process =
            poller(&kafka.origin, &endpoint, &endpoint, &["--dead-letters", file.to_str().unwrap()]);
        let (_invocation, _) = lambda.accept().await.unwrap();
        let pid = process.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        assert!(process.wait().await.unwrap().success());
    }

    assert_eq!(committed(&kafka.origin, GROUP, PARTITIONS).unwrap(), offsets(0));
}

#[tokio::test]
async fn a_topic_that_does_not_exist_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let kafka = Kafka::start(&folder.path().join("broker")).await;
    let limits = Limits { records: 1, bytes: EVENT_BYTES, window: Duration::ZERO };
    assert!(Source::open(&kafka.origin, GROUP, Start::TrimHorizon, limits).is_ok());

    let absent = Origin { topic: "absent".into(), ..kafka.origin.clone() };
    let error = Source::open(&absent, GROUP, Start::TrimHorizon, limits).err().unwrap();
    assert!(error.to_string().contains("UnknownTopicOrPartition"), "{error}");
}

/// The peak memory of the function's process in bytes.
fn peak(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1_024
}

#[tokio::test]
async fn a_full_batch_needs_no_more_than_three_times_its_bytes() {
    let (_s3, endpoint) = S3::start(None).await;
    bucket(&endpoint).await;
    let columns = COLUMNS.join(",");
    let config =
        [("RECORD_FORMAT", "json"), ("CSV_COLUMNS", columns.as_str()), ("CSV_METADATA_COLUMNS", "true")];
    let lambda = lambda(&endpoint, &config).await;

    let records = full_batch();
    let event = Origin::new(TOPIC, "127.0.0.1:9092").event(&records).unwrap();
    let size = event.len();
    let mut function = Lambda::new(&lambda.endpoint(), "msk-to-s3", None).unwrap();
    for _ in 0..3 {
        assert_eq!(function.invoke(event.clone()).await, Outcome::Processed);
    }

    let peak = peak(lambda.pids()[0]);
    eprintln!("{} records, event of {size} bytes: peak {peak} bytes", records.len());
    // The limit is for the deployed build. A debug build is larger because of its unoptimised code.
    let own = if release_build().is_some() { 20_000_000 } else { 30_000_000 };
    assert!(peak <= 3 * size + own, "{peak} bytes for an event of {size}");
}

/// As many records as fit into one event.
fn full_batch() -> Vec<Record> {
    let mut bytes = 0;
    let records = customers(42).enumerate().map(|(number, customer)| {
        let (partition, offset) = place(number);
        let timestamp = (1_767_225_600_000, TimestampType::CreateTime);
        let value = Some(customer.json().into_bytes());
        let decoded = Decoded::default();
        Record { partition, offset, timestamp, key: None, value, headers: Vec::new(), decoded }
    });
    records
        .take_while(|record| {
            bytes += record.event_bytes(TOPIC);
            bytes <= EVENT_BYTES
        })
        .collect()
}
