//! Sends records through broker, poller, function and compaction, all of which are killed while S3 fails, and reads the
//! tables without any deduplication.

use std::collections::BTreeMap;
use std::path::Path;

use aws_sdk_s3::Client;
use postern_demos::kafka::customers::{COLUMNS, Customer, Numbers, customers};
use postern_kafka_poller::event::Origin;
use postern_lambda::Function;
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use serde_json::{Value, json};

use crate::kills::{download, kill_until_committed, run_python};
use crate::parts::{
    BUCKET, Kafka, PARTITIONS, TOPIC, bucket, compaction, lambda, number, place, poller, records,
};
use crate::s3::S3;

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

/// The timestamp of the first record: some hours ago, because a broker deletes records that are older than its retention.
fn start() -> i64 {
    jiff::Timestamp::now().as_millisecond() / HOUR * HOUR - 6 * HOUR
}

/// The fields of the records and their timestamps by partition and offset.
type Rows = BTreeMap<(i64, i64), (Vec<String>, i64)>;

/// The timestamp of the record with this number. Of a hundred records, one is a day late and three are some hours late.
fn timestamp(start: i64, number: usize, records: usize) -> i64 {
    let spread = 3 * HOUR * i64::try_from(number).unwrap() / i64::try_from(records).unwrap();
    let late = match number % 100 {
        7 => DAY,
        20..23 => 2 * HOUR,
        _ => 0,
    };
    start + spread - late
}

/// Produces customers, and returns the rows that a reader must see. One record in 500 is a tombstone.
fn fill(origin: &Origin, customers: &[Customer], numbers: std::ops::Range<usize>, start: i64) -> Rows {
    let producer: ThreadedProducer<_> = ClientConfig::new()
        .set("bootstrap.servers", &origin.bootstrap_servers)
        .set("enable.idempotence", "false")
        .set("max.in.flight.requests.per.connection", "1")
        .set("queue.buffering.max.messages", "1000000")
        .create()
        .unwrap();

    let mut rows = Rows::new();
    for number in numbers {
        let ((partition, offset), time) = (place(number), timestamp(start, number, customers.len()));
        let json = customers[number].json();
        let mut record =
            BaseRecord::to(TOPIC).partition(partition).key(customers[number].id()).timestamp(time);
        if number % 500 != 499 {
            record = record.payload(json.as_str());
            rows.insert((partition.into(), offset), (customers[number].0.to_vec(), time));
        }
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(std::time::Duration::from_mins(1)).unwrap();
    rows
}

/// Compacts a partition a step further. Returns whether nothing is left; `false` after an error.
async fn compact(function: &Function, partition: i32) -> bool {
    let event = json!({"Partition": partition, "ClosedBefore": "2100-01-01T00:00:00Z"});
    let Ok(answer) = function.invoke(event.to_string().into_bytes()).await else { return false };
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    answer["More"] == false && answer["Files"] == 0
}

/// Compacts all partitions in turn until `done`, and kills the function after random numbers of writes.
async fn compact_under_kills(
    function: &Function,
    s3: &S3,
    seed: u64,
    done: impl Future<Output = ()>,
) -> usize {
    let (mut kills, mut draws, mut puts) = (0, Numbers::new(seed), s3.puts());
    let mut kill_at = 10;
    let mut partitions = (0..PARTITIONS).cycle();
    tokio::pin!(done);
    loop {
        let step = compact(function, partitions.next().unwrap());
        tokio::select! {
            () = &mut done => return kills,
            _ = step => {}
            put = puts.wait_for(|puts| *puts >= kill_at) => {
                kill_at = *put.unwrap() + 5 + draws.below(40);
                kills += 1;
                function.kill();
            }
        }
    }
}

#[tokio::test]
async fn a_table_has_every_record_once_although_processes_are_killed_and_s3_fails() {
    let records = records();
    let seed = number("POSTERN_KAFKA_SEED", 43) as u64;
    let folder = tempfile::tempdir().unwrap();
    let kafka = Kafka::start(&folder.path().join("broker")).await;
    let (s3, endpoint) = S3::start(Some(seed)).await;
    let client = bucket(&endpoint).await;
    s3.fail_reads(true);
    let config = [
        ("RECORD_FORMAT", "json"),
        ("CSV_COLUMNS", "id,name,email,city,balance:decimal(18,2),since:date,note"),
        ("CSV_METADATA_COLUMNS", "true"),
        ("CSV_COMPRESSION", "zstd"),
        ("KEY_PREFIX", "in"),
    ];
    let (lambda, compaction) = (lambda(&endpoint, &config).await, compaction(&endpoint, &config).await);

    let dead_letters = folder.path().join("dead-letters.jsonl");
    let mut sizes = Numbers::new(seed);
    let mut start_poller = || {
        let size = (20 + sizes.below((records as u64 / 40).clamp(100, 2_000))).to_string();
        let mut options = vec!["--batch-size", &size, "--maximum-retry-attempts", "-1"];
        options.extend(["--dead-letters", dead_letters.to_str().unwrap()]);
        poller(&kafka.origin, &lambda.endpoint(), &endpoint, &options)
    };

    // The records come in two parts: the second part is late for hours that are in the table already.
    let customers: Vec<Customer> = customers(seed).take(records).collect();
    let (start, mut expected, mut kills) = (start(), Rows::new(), 0);
    for numbers in [0..records / 2, records / 2..records] {
        let produced = numbers.end;
        expected.extend(fill(&kafka.origin, &customers, numbers, start));
        let committed = async {
            kill_until_committed(&mut start_poller, &lambda, &s3, &kafka.origin, produced, seed).await;
        };
        kills += compact_under_kills(&compaction, &s3, seed, committed).await;
    }
    for partition in 0..PARTITIONS {
        while !compact(&compaction, partition).await {}
    }

    s3.fail_reads(false);

    assert!(kills > 0, "compaction was never killed");
    assert_eq!(std::fs::read(&dead_letters).unwrap(), b"", "no record was given up");
    let objects = folder.path().join("objects");
    download(&client, &objects).await;
    assert_readers_see(&expected, &objects);
    assert_every_object_is_listed(&client, kills).await;
}

/// Asserts that `DuckDB` and pyarrow read the expected rows in order.
fn assert_readers_see(expected: &Rows, objects: &Path) {
    let expected: Vec<_> = expected.clone().into_iter().collect();
    let query = include_str!("../../docs/queries/read-table.duckdb.sql")
        .replace("s3://BUCKET", &objects.display().to_string())
        .replace("PREFIX", "in");
    let rows = read("duckdb.sql(sys.stdin.read()).to_arrow_table().to_pylist()", &query);
    assert!(rows == expected, "DuckDB reads every record once, in the order of partition and offset");

    // pyarrow's rows are in the order of the objects, so only these are compared in order.
    let script = include_str!("../../docs/queries/read_table.py");
    let call = format!("read('file://{}', 'in/tables/{TOPIC}').to_pylist()", objects.display());
    let mut rows = read(&call, script);
    rows.sort();
    assert!(rows == expected, "pyarrow reads every record once");
    eprintln!("DuckDB and pyarrow read the same {} records", rows.len());
}

/// A row of a table: the partition, the offset, the text columns and the timestamp.
type TableRow = ((i64, i64), (Vec<String>, i64));

/// Reads the rows that a Python expression gives. The expression can use `input`, or what the input defines if it is a
/// script.
fn read(expression: &str, input: &str) -> Vec<TableRow> {
    let defines = if input.starts_with("\"\"\"") {
        "script = {'__name__': 'script'}; exec(sys.stdin.read(), script); read = script['read']"
    } else {
        ""
    };
    let script = format!(
        "import sys, json, duckdb\nduckdb.sql('SET enable_progress_bar = false')\n{defines}\n\
         for row in {expression}: print(json.dumps([*(str(field if field is not None else '') for field in list(row.values())[:{}]), \
         row['kafka_partition'], row['kafka_offset'], round(row['kafka_timestamp'].timestamp() * 1000)]))",
        COLUMNS.len()
    );
    run_python(&script, input).lines().map(row).collect()
}

fn row(line: &str) -> ((i64, i64), (Vec<String>, i64)) {
    let row: Vec<Value> = serde_json::from_str(line).unwrap();
    let fields = row[..COLUMNS.len()].iter().map(|field| field.as_str().unwrap().to_owned()).collect();
    let number = |position: usize| row[COLUMNS.len() + position].as_i64().unwrap();
    ((number(0), number(1)), (fields, number(2)))
}

/// Asserts that the bucket holds exactly the objects that the manifests and the lists for Athena name.
async fn assert_every_object_is_listed(s3: &Client, kills: usize) {
    let (mut stored, mut listed, mut linked) = (Vec::new(), Vec::new(), Vec::new());
    let mut pages = s3.list_objects_v2().bucket(BUCKET).prefix("in/tables/").into_paginator().send();
    while let Some(page) = pages.next().await {
        for key in page.unwrap().contents().iter().map(|object| object.key().unwrap()) {
            let get = || async {
                let object = s3.get_object().bucket(BUCKET).key(key).send().await.unwrap();
                object.body.collect().await.unwrap().into_bytes()
            };
            if key.contains("/_manifests/") {
                let manifest: Value = serde_json::from_slice(&get().await).unwrap();
                assert_eq!(manifest["pending"], Value::Null);
                let files = manifest["files"].as_array().unwrap().iter();
                listed.extend(files.map(|file| file["key"].as_str().unwrap().to_owned()));
            } else if key.contains("/_symlinks/") {
                let list = String::from_utf8(get().await.to_vec()).unwrap();
                linked.extend(list.lines().map(|line| line.replace(&format!("s3://{BUCKET}/"), "")));
            } else {
                stored.push(key.to_owned());
            }
        }
    }

    for list in [&mut stored, &mut listed, &mut linked] {
        list.sort();
    }
    assert_eq!(stored, listed);
    assert_eq!(linked, listed);
    eprintln!("{} objects in the table; compaction was killed {kills} times", listed.len());
}
