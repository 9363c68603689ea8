//! Sends records through broker, poller, function and S3 while poller and function are killed and S3 fails.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::Ordering;

use postern_demos::kafka::broker::{Produced, produce};
use postern_demos::kafka::customers::{COLUMNS, Customer, Numbers, customers};
use postern_demos::kafka::reader::Reading;

use crate::parts::{BUCKET, Kafka, TOPIC, bucket, lambda, offsets, place, poller, python, until_committed};
use crate::s3::S3;

/// The number of records, unless `POSTERN_KAFKA_RECORDS` is set.
const RECORDS: usize = 3_000;

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |value| value.parse().unwrap())
}

#[tokio::test]
async fn every_record_is_read_once_although_processes_are_killed_and_writes_fail() {
    let records = number("POSTERN_KAFKA_RECORDS", RECORDS);
    let seed = number("POSTERN_KAFKA_SEED", 42) as u64;
    let folder = tempfile::tempdir().unwrap();
    let kafka = Kafka::start(&folder.path().join("broker")).await;
    let (s3, endpoint) = S3::start(Some(seed)).await;
    let client = bucket(&endpoint).await;
    let config = [
        ("RECORD_FORMAT", "json"),
        ("CSV_COLUMNS", &COLUMNS.join(",")),
        ("CSV_METADATA_COLUMNS", "true"),
        ("KEY_PREFIX", "in"),
    ];
    let lambda = lambda(&endpoint, &config).await;

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
        &kafka.origin.bootstrap_servers,
        TOPIC,
        file.iter().enumerate().map(|(number, (customer, json))| Produced {
            partition: Some(place(number).0),
            key: customer.id(),
            value: (!dead(number)).then_some(json.as_bytes()),
        }),
    )
    .unwrap();

    // Each poller has another batch size, so the bounds vary. A kill follows a put, so it interrupts a write.
    let dead_letters = folder.path().join("dead-letters.jsonl");
    let mut numbers = Numbers::new(seed);
    let mut start = || {
        let size = (20 + numbers.below((records as u64 / 40).clamp(100, 2_000))).to_string();
        let mut options =
            vec!["--batch-size", &size, "--maximum-retry-attempts", "-1", "--bisect-batch-on-function-error"];
        options.extend(["--dead-letters", dead_letters.to_str().unwrap()]);
        poller(&kafka.origin, &lambda.endpoint(), &endpoint, &options)
    };
    let mut process = start();
    let mut draws = Numbers::new(seed + 1);
    let mut puts = s3.puts();
    let (mut functions, mut pollers) = (0, 0);
    let produced = offsets(records);
    let done = until_committed(&kafka.origin, &produced);
    tokio::pin!(done);
    let mut kill_at = 3;
    let kills = 8 + records / 5_000;
    loop {
        tokio::select! {
            () = &mut done => break,
            _ = process.wait() => process = start(),
            // The number of kills is limited: a poller that is always killed before it commits makes no progress.
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
        "{records} records: {} objects, {} rows, {} records; killed {functions} times the function \
         and {pollers} times the poller; S3 refused {} writes, hid {} it had taken, and had {} already",
        reading.objects,
        reading.rows,
        reading.records.len(),
        count(&s3.counts.refused),
        count(&s3.counts.stored_then_failed),
        count(&s3.counts.existed),
    );
    assert!(
        functions > 0
            && pollers > 0
            && count(&s3.counts.refused) > 0
            && count(&s3.counts.stored_then_failed) > 0
    );
    let expected: BTreeMap<(i32, i64), Vec<String>> = file
        .iter()
        .enumerate()
        .filter(|(number, _)| !dead(*number))
        .map(|(number, (customer, _))| (place(number), customer.0.to_vec()))
        .collect();
    assert_eq!(reading.contradictions, 0);
    assert!(reading.records == expected, "every record is there once, with its fields");
    assert_eq!(std::fs::read(&dead_letters).unwrap(), b"", "no record was given up");
    duckdb(&client, folder.path(), &expected).await;
}

/// Runs the documented query with `DuckDB` and compares its rows with the expected ones.
async fn duckdb(
    s3: &aws_sdk_s3::Client,
    folder: &std::path::Path,
    expected: &BTreeMap<(i32, i64), Vec<String>>,
) {
    let objects = folder.join("objects");
    let mut pages = s3.list_objects_v2().bucket(BUCKET).into_paginator().send();
    while let Some(page) = pages.next().await {
        for key in page.unwrap().contents().iter().map(|object| object.key().unwrap()) {
            let object = s3.get_object().bucket(BUCKET).key(key).send().await.unwrap();
            std::fs::create_dir_all(objects.join(key).parent().unwrap()).unwrap();
            std::fs::write(objects.join(key), object.body.collect().await.unwrap().into_bytes()).unwrap();
        }
    }
    let query = include_str!("../../docs/queries/read-once.duckdb.sql")
        .replace("s3://BUCKET/PREFIX", &objects.join("in").display().to_string());
    let script = "import sys, json, duckdb\nduckdb.sql('SET enable_progress_bar = false')\nfor row in duckdb.sql(sys.stdin.read()).fetchall(): print(json.dumps(row))";
    let mut child = Command::new(python())
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
