//! A bucket in memory, builders of events, and a reader that works like the documented query.

use std::cell::RefCell;
use std::collections::BTreeMap;

use msk_to_s3::{Answer, Config, Error, Object, Put, Store, write_batch};
use postern_runtime::env::Environment;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// A bucket in memory. Like S3 with `If-None-Match: *` it never overwrites an object, and it can be made to fail.
#[derive(Default)]
pub(crate) struct Memory {
    objects: RefCell<BTreeMap<String, Object>>,
    /// The number of writes that succeed before each failing one.
    failures: RefCell<Vec<usize>>,
}

impl Memory {
    /// A bucket in which `writes` writes succeed and the next one fails.
    pub(crate) fn failing_after(writes: usize) -> Self {
        Self { failures: RefCell::new(vec![writes]), ..Self::default() }
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.objects.borrow().keys().cloned().collect()
    }

    /// The text of each object, in the order of the keys.
    pub(crate) fn texts(&self) -> Vec<String> {
        let objects = self.objects.borrow();
        objects.values().map(|object| String::from_utf8(object.body.clone()).unwrap()).collect()
    }

    pub(crate) fn only(&self) -> Object {
        let objects = self.objects.borrow();
        assert_eq!(objects.len(), 1, "{:?}", objects.keys());
        objects.values().next().unwrap().clone()
    }

    /// All rows of all objects, read by an independent parser.
    pub(crate) fn rows(&self) -> Vec<Vec<String>> {
        self.texts().iter().flat_map(|text| parse(text)).collect()
    }

    /// The rows that the documented query returns: each record once, ordered by topic, partition and offset. The metadata
    /// columns must be the last four.
    pub(crate) fn read_once(&self) -> Vec<(u64, Vec<String>)> {
        let mut records = BTreeMap::new();
        for mut row in self.rows() {
            let metadata = row.split_off(row.len() - 4);
            let (topic, partition, offset) =
                (&metadata[0], &metadata[1], metadata[2].parse::<u64>().unwrap());
            records.insert((topic.clone(), partition.parse::<u32>().unwrap(), offset), row);
        }
        records.into_iter().map(|((_, _, offset), row)| (offset, row)).collect()
    }

    pub(crate) fn offsets(&self) -> Vec<u64> {
        self.read_once().into_iter().map(|(offset, _)| offset).collect()
    }
}

impl Store for Memory {
    async fn put(&self, object: Object) -> Result<Put, Error> {
        let mut failures = self.failures.borrow_mut();
        if let Some(left) = failures.first_mut() {
            if *left == 0 {
                failures.remove(0);
                return Err(Error::Throttled("SlowDown (HTTP 503)".into()));
            }
            *left -= 1;
        }

        match self.objects.borrow_mut().entry(object.key.clone()) {
            std::collections::btree_map::Entry::Occupied(_) => Ok(Put::Existed),
            std::collections::btree_map::Entry::Vacant(free) => {
                free.insert(object);
                Ok(Put::Written)
            }
        }
    }
}

/// The rows of a CSV text, read by the `csv` crate.
pub(crate) fn parse(text: &str) -> Vec<Vec<String>> {
    let mut parser = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
    parser.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect()
}

pub(crate) fn config(list: &[(&str, &str)]) -> Config {
    Config::from_env(&Environment::of(&[&[("S3_BUCKET_NAME", "bucket")], list].concat())).unwrap()
}

/// `lines` mode with the metadata columns that the documented query needs.
pub(crate) fn lines() -> Config {
    config(&[("CSV_COLUMNS", "value"), ("CSV_METADATA_COLUMNS", "true")])
}

pub(crate) fn base64(bytes: impl AsRef<[u8]>) -> String {
    base64_simd::STANDARD.encode_to_string(bytes)
}

/// A record whose timestamp is its offset in seconds.
pub(crate) fn record(offset: u64, value: impl AsRef<[u8]>) -> Value {
    json!({"topic": "t", "partition": 0, "offset": offset, "timestamp": offset * 1_000,
           "timestampType": "CREATE_TIME", "value": base64(value), "headers": []})
}

pub(crate) fn tombstone(offset: u64) -> Value {
    json!({"topic": "t", "partition": 0, "offset": offset, "timestamp": offset * 1_000, "value": null})
}

/// Records with these offsets, whose values are `v` and the offset.
pub(crate) fn good(offsets: impl IntoIterator<Item = u64>) -> Vec<Value> {
    offsets.into_iter().map(|offset| record(offset, format!("v{offset}"))).collect()
}

/// An event with these records in partition 0 of topic `t`.
pub(crate) fn event(records: &[Value]) -> Box<RawValue> {
    of_partitions(&json!({ "t-0": records }))
}

pub(crate) fn of_partitions(records: &Value) -> Box<RawValue> {
    let event = json!({"eventSource": "aws:kafka", "eventSourceArn": "arn:aws:kafka:eu-west-1:123456789012:cluster/c/1",
                       "bootstrapServers": "b-1:9098", "records": records});
    serde_json::value::to_raw_value(&event).unwrap()
}

pub(crate) fn write(store: &Memory, config: &Config, event: &RawValue) -> Result<Answer, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(write_batch(store, config, event.get().as_bytes()))
}

/// Writes a batch and returns the bad records as `partition:offset`.
pub(crate) fn bad(store: &Memory, config: &Config, event: &RawValue) -> Vec<String> {
    let answer = write(store, config, event).unwrap();
    let items = answer.batch_item_failures.into_iter().map(|failure| failure.item_identifier);
    items.map(|item| format!("{}:{}", item.partition, item.offset)).collect()
}
