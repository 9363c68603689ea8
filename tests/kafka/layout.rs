//! Folders by hour (`CSV_KEY_LAYOUT=time`), read by `DuckDB`: all records by the documented query, and one hour by its
//! folder.

use std::collections::BTreeMap;

use postern_demos::kafka::customers::{COLUMNS, Customer, customers};
use postern_kafka_poller::event::{Decoded, Origin, Record, TimestampType};
use postern_kafka_poller::invoke::Lambda;
use postern_kafka_poller::mapping::{Function as _, Outcome};

use crate::kills::{download, parse_row, run_duckdb};
use crate::parts::{TOPIC, bucket, lambda, place};
use crate::s3::S3;

const HOUR: i64 = 3_600_000;
const RECORDS: usize = 300;

/// The timestamp of the record with this number: one of three hours of 2026-01-01, for some records a day earlier, and
/// for some none.
fn timestamp(number: usize) -> i64 {
    const START: i64 = 1_767_225_600_000;
    match number % 50 {
        49 => -1,
        10..15 => START - 24 * HOUR + HOUR,
        _ => START + i64::try_from(number % 3).unwrap() * HOUR,
    }
}

/// The record of a customer. The partitions are those of [`place`], so that each has records of every hour.
fn record(number: usize, customer: &Customer) -> Record {
    let (partition, offset) = place(number / 4 * 4 + (number * 3) % 4);
    Record {
        partition,
        offset,
        timestamp: (timestamp(number), TimestampType::CreateTime),
        key: None,
        value: Some(customer.json().into_bytes()),
        headers: Vec::new(),
        decoded: Decoded::default(),
    }
}

#[tokio::test]
async fn folders_by_hour_are_read_once_and_one_hour_is_read_by_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let (_s3, endpoint) = S3::start(None).await;
    let client = bucket(&endpoint).await;
    let config = [
        ("RECORD_FORMAT", "json"),
        ("CSV_COLUMNS", &COLUMNS.join(",")),
        ("CSV_METADATA_COLUMNS", "true"),
        ("CSV_KEY_LAYOUT", "time"),
        ("KEY_PREFIX", "in"),
    ];
    let lambda = lambda(&endpoint, &config).await;
    let mut function = Lambda::new(&lambda.endpoint(), "msk-to-s3", None).unwrap();

    let customers: Vec<Customer> = customers(3).take(RECORDS).collect();
    let mut records: Vec<Record> =
        customers.iter().enumerate().map(|(number, customer)| record(number, customer)).collect();
    let expected: BTreeMap<_, _> = records
        .iter()
        .zip(&customers)
        .map(|(record, customer)| {
            ((record.partition, record.offset), (customer.0.to_vec(), record.timestamp.0))
        })
        .collect();

    // Every record is delivered twice, in batches with other bounds.
    records.sort_by_key(|record| (record.offset, record.partition));
    for size in [110, 70] {
        for batch in records.chunks(size) {
            let event = Origin::new(TOPIC, "127.0.0.1:9092").event(batch).unwrap();
            assert_eq!(function.invoke(event).await, Outcome::Processed);
        }
    }

    let objects = folder.path().join("objects");
    download(&client, &objects).await;
    let query = include_str!("../../docs/queries/read-once.duckdb.sql")
        .replace("s3://BUCKET/PREFIX", &objects.join("in").display().to_string());
    let rows: Vec<_> = run_duckdb(&query).lines().map(parse_row).collect();
    let all = |hour: fn(i64) -> bool| -> Vec<_> {
        let of_hour = expected.iter().filter(|(_, (_, time))| hour(*time));
        of_hour.map(|(place, (fields, _))| (*place, fields.clone())).collect()
    };
    assert!(rows == all(|_| true), "DuckDB reads every record once");

    // As docs/kafka/why-nothing-is-lost.md has it.
    let one_hour = query
        .replace("hive_partitioning = false", "hive_partitioning = true")
        .replace("SELECT *", "SELECT * EXCLUDE (date, hour)")
        .replace("QUALIFY", "WHERE date = DATE '2026-01-01' AND hour = 1 QUALIFY");
    let rows: Vec<_> = run_duckdb(&one_hour).lines().map(parse_row).collect();
    assert!(!rows.is_empty());
    assert!(rows == all(|time| time == 1_767_225_600_000 + HOUR), "DuckDB reads the records of the hour");
}
