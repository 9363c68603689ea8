//! Sends records through broker, poller, function and S3 while poller and function are killed and S3 fails.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use aws_sdk_s3::Client;
use postern_demos::kafka::broker::{Produced, produce};
use postern_demos::kafka::customers::{COLUMNS, Customer, Numbers, customers};
use postern_demos::kafka::reader::Reading;
use postern_kafka_poller::event::Origin;
use postern_lambda::Function;
use tokio::process::Child;

use crate::parts::{
    BUCKET, Kafka, TOPIC, bucket, lambda, number, offsets, place, poller, python, records, until_committed,
};
use crate::s3::S3;

/// The fields of the records by partition and offset.
type Rows = BTreeMap<(i32, i64), Vec<String>>;

/// Whether the record with this number is a tombstone.
fn is_tombstone(number: usize) -> bool {
    number % 500 == 499
}

#[tokio::test]
async fn every_record_is_read_once_although_processes_are_killed_and_writes_fail() {
    let records = records();
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

    let expected = fill(&kafka.origin, customers(seed).take(records));

    // Each poller has another batch size, so that each delivers the records in batches with other bounds.
    let dead_letters = folder.path().join("dead-letters.jsonl");
    let mut sizes = Numbers::new(seed);
    let start_poller = || {
        let size = (20 + sizes.below((records as u64 / 40).clamp(100, 2_000))).to_string();
        let mut options =
            vec!["--batch-size", &size, "--maximum-retry-attempts", "-1", "--bisect-batch-on-function-error"];
        options.extend(["--dead-letters", dead_letters.to_str().unwrap()]);
        poller(&kafka.origin, &lambda.endpoint(), &endpoint, &options)
    };
    let kills = kill_until_committed(start_poller, &lambda, &s3, &kafka.origin, records, seed).await;

    let reading = Reading::of(&client, BUCKET, "in/").await.unwrap();
    report(records, &reading, &kills, &s3);
    assert!(kills.functions > 0 && kills.pollers > 0);
    assert!(count(&s3.counts.refused) > 0 && count(&s3.counts.stored_then_failed) > 0);
    assert_eq!(reading.contradictions, 0);
    assert!(reading.records == expected, "every record is read once, with its fields");
    assert_eq!(std::fs::read(&dead_letters).unwrap(), b"", "no record was given up");
    assert_duckdb_reads(&client, folder.path(), &expected).await;
}

/// Produces the customers, some of them as tombstones, and returns the rows that must be read.
fn fill(origin: &Origin, customers: impl Iterator<Item = Customer>) -> Rows {
    let file: Vec<(Customer, String)> = customers
        .map(|customer| {
            let json = customer.json();
            (customer, json)
        })
        .collect();

    let records = file.iter().enumerate().map(|(number, (customer, json))| Produced {
        partition: Some(place(number).0),
        key: customer.id(),
        value: (!is_tombstone(number)).then_some(json.as_bytes()),
    });
    produce(&origin.bootstrap_servers, TOPIC, records).unwrap();

    let rows = file.iter().enumerate().filter(|(number, _)| !is_tombstone(*number));
    rows.map(|(number, (customer, _))| (place(number), customer.0.to_vec())).collect()
}

/// How many times each kind of process was killed.
#[derive(Default)]
pub(crate) struct Kills {
    functions: usize,
    pollers: usize,
}

/// Kills the function and the poller in turn until every record is committed. A poller that ends is replaced by another.
///
/// A kill follows a put, so it interrupts the processing of a batch.
pub(crate) async fn kill_until_committed(
    mut start_poller: impl FnMut() -> Child,
    lambda: &Function,
    s3: &S3,
    origin: &Origin,
    records: usize,
    seed: u64,
) -> Kills {
    let mut kills = Kills::default();
    // The number of kills is limited: a poller that is always killed before it commits makes no progress.
    let most = 8 + records / 5_000;
    let mut draws = Numbers::new(seed + 1);
    let mut puts = s3.puts();
    let mut kill_at = 3;

    let produced = offsets(records);
    let done = until_committed(origin, &produced);
    tokio::pin!(done);
    let mut process = start_poller();
    loop {
        tokio::select! {
            () = &mut done => break,
            _ = process.wait() => process = start_poller(),
            put = puts.wait_for(|puts| *puts >= kill_at), if kills.functions + kills.pollers < most => {
                kill_at = *put.unwrap() + 3 + draws.below(12);
                if kills.functions <= kills.pollers {
                    kills.functions += 1;
                    lambda.kill();
                } else {
                    kills.pollers += 1;
                    process.start_kill().unwrap();
                }
            }
        }
    }

    process.kill().await.unwrap();
    kills
}

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Prints what the run consisted of, for runs with other numbers and seeds.
fn report(records: usize, reading: &Reading, kills: &Kills, s3: &S3) {
    eprintln!(
        "{records} records: read {} from {} objects with {} rows; killed the function {} times and the poller {} \
         times; S3 refused {} writes, stored {} objects but answered with an error, and had {} objects already",
        reading.records.len(),
        reading.objects,
        reading.rows,
        kills.functions,
        kills.pollers,
        count(&s3.counts.refused),
        count(&s3.counts.stored_then_failed),
        count(&s3.counts.existed),
    );
}

/// Asserts that the documented query, run by `DuckDB`, returns the expected rows in the order of partition and offset.
async fn assert_duckdb_reads(s3: &Client, folder: &Path, expected: &Rows) {
    let objects = folder.join("objects");
    download(s3, &objects).await;
    let query = include_str!("../../docs/queries/read-once.duckdb.sql")
        .replace("s3://BUCKET/PREFIX", &objects.join("in").display().to_string());

    let rows: Vec<_> = run_duckdb(&query).lines().map(parse_row).collect();
    let expected: Vec<_> = expected.clone().into_iter().collect();
    assert!(rows == expected, "DuckDB reads every record once, in the order of partition and offset");
    eprintln!("DuckDB read the same {} records", rows.len());
}

/// Copies the bucket's objects to files in a folder.
pub(crate) async fn download(s3: &Client, folder: &Path) {
    let mut pages = s3.list_objects_v2().bucket(BUCKET).into_paginator().send();
    while let Some(page) = pages.next().await {
        for key in page.unwrap().contents().iter().map(|object| object.key().unwrap()) {
            let object = s3.get_object().bucket(BUCKET).key(key).send().await.unwrap();
            let file = folder.join(key);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, object.body.collect().await.unwrap().into_bytes()).unwrap();
        }
    }
}

/// Runs a query with `DuckDB`. Returns one JSON array for each row, each on a line.
pub(crate) fn run_duckdb(query: &str) -> String {
    const SCRIPT: &str = "
import sys, json, duckdb
duckdb.sql('SET enable_progress_bar = false')
for row in duckdb.sql(sys.stdin.read()).fetchall(): print(json.dumps(row))
";
    run_python(SCRIPT, query)
}

/// Runs a script of the readers' Python with this input, and returns its output.
pub(crate) fn run_python(script: &str, input: &str) -> String {
    let mut child = Command::new(python())
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();

    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// The partition, offset and fields of a row. The metadata columns follow the customer's: topic, partition, offset, time.
pub(crate) fn parse_row(line: &str) -> ((i32, i64), Vec<String>) {
    let row: Vec<serde_json::Value> = serde_json::from_str(line).unwrap();
    let (fields, metadata) = row.split_at(COLUMNS.len());
    let fields = fields.iter().map(|field| field.as_str().unwrap_or_default().to_owned()).collect();
    let number = |column: usize| metadata[column].as_i64().unwrap();
    ((i32::try_from(number(1)).unwrap(), number(2)), fields)
}
