//! Records through broker, poller, function and S3, with everything failing that can.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::Ordering;

use postern_kafka_poller::broker::{Produced, produce};
use postern_kafka_poller::customers::{COLUMNS, Customer, Numbers, customers};
use postern_kafka_poller::event::{Origin, Record, TimestampType};
use postern_kafka_poller::invoke::Lambda;
use postern_kafka_poller::mapping::{Function as _, Outcome};
use postern_kafka_poller::reader::Reading;
use postern_kafka_poller::source::EVENT_BYTES;

use crate::parts::{
    BUCKET, Kafka, PARTITIONS, TOPIC, bucket, lambda, poller, program, until, until_committed,
};
use crate::s3::S3;

/// Records of the run with kills, unless `POSTERN_KAFKA_RECORDS` says another number.
const RECORDS: usize = 3_000;

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |value| value.parse().unwrap())
}

/// A customer's place: partitions in turn.
fn place(number: usize) -> (i32, i64) {
    let partitions = usize::try_from(PARTITIONS).unwrap();
    (i32::try_from(number % partitions).unwrap(), i64::try_from(number / partitions).unwrap())
}

fn next_offsets(places: impl Iterator<Item = (i32, i64)>) -> BTreeMap<i32, i64> {
    let mut next = BTreeMap::new();
    for (partition, offset) in places {
        next.insert(partition, offset + 1);
    }
    next
}

#[tokio::test]
async fn every_record_is_readable_once_whatever_is_killed_and_refused() {
    let records = number("POSTERN_KAFKA_RECORDS", RECORDS);
    let seed = number("POSTERN_KAFKA_SEED", 42) as u64;
    let folder = tempfile::tempdir().unwrap();
    let (kafka, origin) = Kafka::start(&folder.path().join("broker")).await;
    let (s3, endpoint) = S3::start(program("POSTERN_MINISTACK").as_deref(), Some(seed)).await;
    let client = bucket(&endpoint).await;
    let settings = [
        ("RECORD_FORMAT", "json"),
        ("CSV_COLUMNS", &COLUMNS.join(",")),
        ("CSV_METADATA_COLUMNS", "true"),
        ("KEY_PREFIX", "in"),
    ];
    let lambda = lambda(&endpoint, &settings).await;

    // Every 500th customer is a tombstone.
    let file: Vec<(Customer, String)> = customers(seed)
        .take(records)
        .map(|customer| {
            let json = customer.json();
            (customer, json)
        })
        .collect();
    let dead = |number: usize| number % 500 == 499;
    produce(
        &origin.bootstrap_servers,
        TOPIC,
        file.iter().enumerate().map(|(number, (customer, json))| Produced {
            partition: Some(place(number).0),
            key: customer.id(),
            value: (!dead(number)).then_some(json.as_bytes()),
        }),
    )
    .unwrap();

    // Batches' bounds vary from one poller to the next; kills fall into the middle of a write.
    let letters = folder.path().join("letters.jsonl");
    let mut numbers = Numbers::new(seed);
    let mut start = || {
        let size = (20 + numbers.below((records as u64 / 40).clamp(100, 2_000))).to_string();
        let options =
            ["--batch-size", &size, "--maximum-retry-attempts", "-1", "--bisect-batch-on-function-error"];
        poller(&origin, &lambda.endpoint, &letters, &options)
    };
    let mut process = start();
    let mut draws = Numbers::new(seed + 1);
    let mut puts = s3.puts();
    let (mut functions, mut pollers) = (0, 0);
    let produced = next_offsets((0..records).map(place));
    let done = until_committed(&origin, &produced);
    tokio::pin!(done);
    let mut kill_at = 3;
    let kills = 8 + records / 5_000;
    loop {
        tokio::select! {
            () = &mut done => break,
            _ = process.wait() => process = start(),
            // With an end: a poller that is killed before every commit never comes to one.
            put = puts.wait_for(|puts| *puts >= kill_at), if functions + pollers < kills => {
                kill_at = *put.unwrap() + 3 + draws.below(12);
                if functions <= pollers {
                    functions += 1;
                    lambda.kill();
                } else {
                    pollers += 1;
                    process.start_kill().unwrap();
                }
            }
        }
    }
    process.kill().await.unwrap();

    let reading = Reading::of(&client, BUCKET, "in/").await.unwrap();
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    eprintln!(
        "{records} records through {} into {}: {} objects, {} rows, {} records; killed {functions} times the function \
         and {pollers} times the poller; S3 refused {} writes, hid {} it had taken, and had {} already",
        kafka.name(),
        s3.name(),
        reading.objects,
        reading.rows,
        reading.records.len(),
        count(&s3.counts.refused),
        count(&s3.counts.stored_unsaid),
        count(&s3.counts.existed),
    );
    assert!(
        functions > 0 && pollers > 0 && count(&s3.counts.refused) > 0 && count(&s3.counts.stored_unsaid) > 0
    );
    let expected: BTreeMap<(i32, i64), Vec<String>> = file
        .iter()
        .enumerate()
        .filter(|(number, _)| !dead(*number))
        .map(|(number, (customer, _))| (place(number), customer.0.to_vec()))
        .collect();
    assert_eq!(reading.contradictions, 0);
    assert!(reading.records == expected, "every record is there once, with its fields");
    assert_eq!(std::fs::read(&letters).unwrap(), b"", "no record was given up");
    duckdb(&client, folder.path(), &expected).await;
}

/// The documented query, run by `DuckDB` where `POSTERN_DUCKDB_PYTHON` names a Python that has it.
async fn duckdb(
    s3: &aws_sdk_s3::Client,
    folder: &std::path::Path,
    expected: &BTreeMap<(i32, i64), Vec<String>>,
) {
    let Some(python) = program("POSTERN_DUCKDB_PYTHON") else {
        eprintln!("POSTERN_DUCKDB_PYTHON is not set: the query was run by the reader of this crate alone");
        return;
    };
    let objects = folder.join("objects");
    let mut pages = s3.list_objects_v2().bucket(BUCKET).into_paginator().send();
    while let Some(page) = pages.next().await {
        for key in page.unwrap().contents().iter().map(|object| object.key().unwrap()) {
            let object = s3.get_object().bucket(BUCKET).key(key).send().await.unwrap();
            std::fs::create_dir_all(objects.join(key).parent().unwrap()).unwrap();
            std::fs::write(objects.join(key), object.body.collect().await.unwrap().into_bytes()).unwrap();
        }
    }
    let query = include_str!("../../../../docs/queries/read-once.duckdb.sql")
        .replace("s3://BUCKET/PREFIX", &objects.join("in").display().to_string());
    let script = "import sys, json, duckdb\nduckdb.sql('SET enable_progress_bar = false')\nfor row in duckdb.sql(sys.stdin.read()).fetchall(): print(json.dumps(row))";
    let mut child = Command::new(python)
        .args(["-c", script])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), query.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let rows: Vec<((i32, i64), Vec<String>)> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| {
            let row: Vec<serde_json::Value> = serde_json::from_str(line).unwrap();
            let fields = row[..COLUMNS.len()]
                .iter()
                .map(|field| field.as_str().unwrap_or_default().to_owned())
                .collect();
            let at = |column: usize| row[COLUMNS.len() + column].as_i64().unwrap();
            ((i32::try_from(at(1)).unwrap(), at(2)), fields)
        })
        .collect();
    let expected: Vec<((i32, i64), Vec<String>)> = expected.clone().into_iter().collect();
    assert!(rows == expected, "DuckDB reads every record once, in the order of partition and offset");
    eprintln!("DuckDB read the same {} records", rows.len());
}

#[tokio::test]
async fn bad_records_are_given_up_after_their_retries_and_the_others_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let (_kafka, origin) = Kafka::start(&folder.path().join("broker")).await;
    let (_s3, endpoint) = S3::start(None, None).await;
    let client = bucket(&endpoint).await;
    let columns = COLUMNS.join(",");
    let lambda = lambda(&endpoint, &[("CSV_COLUMNS", &columns), ("CSV_METADATA_COLUMNS", "true")]).await;
    let bad = |number: usize| number % 100 == 7;
    let lines: Vec<String> = customers(1)
        .take(900)
        .enumerate()
        .map(|(number, customer)| if bad(number) { "an open \"quote".to_owned() } else { customer.line() })
        .collect();
    produce(
        &origin.bootstrap_servers,
        TOPIC,
        lines.iter().enumerate().map(|(number, line)| Produced {
            partition: Some(place(number).0),
            key: "customer",
            value: Some(line.as_bytes()),
        }),
    )
    .unwrap();
    let letters = folder.path().join("letters.jsonl");
    let options = ["--batch-size", "150", "--maximum-retry-attempts", "2"];
    let _process = poller(&origin, &lambda.endpoint, &letters, &options);
    until_committed(&origin, &next_offsets((0..900).map(place))).await;

    let reading = Reading::of(&client, BUCKET, "").await.unwrap();
    let good: Vec<(i32, i64)> = (0..900).filter(|number| !bad(*number)).map(place).collect();
    assert_eq!(reading.records.len(), good.len());
    assert!(good.iter().all(|place| reading.records.contains_key(place)));
    assert_eq!(reading.rows, good.len(), "a named record is sent again alone: nothing is doubled");
    let mut given_up: Vec<(i64, i64)> = Vec::new();
    for letter in std::fs::read_to_string(&letters).unwrap().lines() {
        let letter: serde_json::Value = serde_json::from_str(letter).unwrap();
        assert_eq!(letter["requestContext"]["condition"], "RetryAttemptsExhausted");
        let partitions = letter["payload"]["records"].as_object().unwrap();
        let records = partitions.values().flat_map(|records| records.as_array().unwrap());
        given_up.extend(
            records.map(|record| (record["partition"].as_i64().unwrap(), record["offset"].as_i64().unwrap())),
        );
    }
    given_up.sort_unstable();
    let mut expected: Vec<(i64, i64)> = (0..900)
        .filter(|number| bad(*number))
        .map(place)
        .map(|(partition, offset)| (i64::from(partition), offset))
        .collect();
    expected.sort_unstable();
    assert_eq!(given_up, expected);
}

#[tokio::test]
async fn a_killed_function_is_a_function_error_and_the_next_has_a_new_process() {
    let (s3, endpoint) = S3::start(None, None).await;
    bucket(&endpoint).await;
    let lambda = lambda(&endpoint, &[]).await;
    let first = lambda.pid().unwrap();
    lambda.kill();
    until("there is another process", || async { lambda.pid().is_some_and(|pid| pid != first) }).await;
    assert_eq!(*s3.puts().borrow(), 0);
}

/// The most that the function's process ever had in memory, in bytes.
fn peak(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1_024
}

#[tokio::test]
async fn a_full_batch_needs_no_more_than_three_times_its_bytes() {
    let (_s3, endpoint) = S3::start(None, None).await;
    bucket(&endpoint).await;
    let columns = COLUMNS.join(",");
    let settings =
        [("RECORD_FORMAT", "json"), ("CSV_COLUMNS", columns.as_str()), ("CSV_METADATA_COLUMNS", "true")];
    let lambda = lambda(&endpoint, &settings).await;
    let origin = Origin { topic: TOPIC.into(), bootstrap_servers: "127.0.0.1:9092".into() };
    let mut records = Vec::new();
    let mut bytes = 0;
    for (number, customer) in customers(42).enumerate() {
        let (partition, offset) = place(number);
        let timestamp = (1_767_225_600_000, TimestampType::CreateTime);
        let value = Some(customer.json().into_bytes());
        let record = Record { partition, offset, timestamp, key: None, value, headers: Vec::new() };
        bytes += record.event_bytes(TOPIC);
        if bytes > EVENT_BYTES {
            break;
        }
        records.push(record);
    }
    let event = origin.event(&records).unwrap();
    let size = event.len();
    let mut function = Lambda::new(&lambda.endpoint, "msk-to-s3", None).unwrap();
    for _ in 0..3 {
        assert_eq!(function.invoke(event.clone()).await, Outcome::Done);
    }
    let peak = peak(lambda.pid().unwrap());
    eprintln!("{} records, event of {size} bytes: peak {peak} bytes", records.len());
    // The bound is for what is deployed; a debug build is bigger by its unoptimised code alone.
    let own = if program("POSTERN_MSK_TO_S3").is_some() { 20_000_000 } else { 30_000_000 };
    assert!(peak <= 3 * size + own, "{peak} bytes for an event of {size}");
}
