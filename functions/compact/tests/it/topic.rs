//! A partition of a topic: its records, the objects that msk-to-s3 writes for them, and a reader of the table.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use compact::{Config, Manifest, Ranges, compact};
use jiff::Timestamp;
use msk_to_s3::{Object, Put, write_batch};
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::Field;
use postern_runtime::env::Environment;
use serde_json::{Value, json};

use crate::bucket::Memory;

pub(crate) const HOUR: i64 = 3_600_000;
/// The beginning of the first hour of all tests.
pub(crate) const START: i64 = 490_896 * HOUR;
pub(crate) const MANIFEST: &str = "in/tables/t/_manifests/0.json";

pub(crate) fn config(list: &[(&str, &str)]) -> Config {
    let base = [
        ("S3_BUCKET_NAME", "b"),
        ("KEY_PREFIX", "in"),
        ("KAFKA_TOPIC", "t"),
        ("RECORD_FORMAT", "json"),
        ("CSV_COLUMNS", "id:int64,note"),
        ("CSV_METADATA_COLUMNS", "true"),
    ];
    // A variable that is listed twice has the first value.
    let all = [list, &base].concat();
    Config::from_env(&Environment::of(&all)).unwrap()
}

/// A record: its timestamp, and its note. A tombstone has no note.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) timestamp: i64,
    pub(crate) note: Option<String>,
}

/// A row of the table: offset, timestamp, id, note.
pub(crate) type Row = (u64, Option<i64>, i64, String);

/// The bucket that msk-to-s3 writes to.
struct Written<'m>(&'m Memory);

impl msk_to_s3::Store for Written<'_> {
    async fn put(&self, object: Object) -> Result<Put, msk_to_s3::Error> {
        self.0.write(&object.key, object.body);
        Ok(Put::Written)
    }
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Has msk-to-s3 write a batch with the records at these offsets. A record without a timestamp has -1.
pub(crate) fn deliver(bucket: &Memory, config: &Config, records: &BTreeMap<u64, Record>, offsets: &[u64]) {
    let record = |offset: &u64| {
        let Record { timestamp, note } = &records[offset];
        let value = note.as_ref().map(|note| json!({"id": offset, "note": note}).to_string());
        let value = value.map(|value| base64_simd::STANDARD.encode_to_string(value));
        json!({"topic": "t", "partition": 0, "offset": offset, "timestamp": timestamp, "value": value})
    };

    let batch: Vec<Value> = offsets.iter().map(record).collect();
    let event = json!({"eventSource": "aws:kafka", "records": {"t-0": batch}}).to_string();
    let answer = block_on(write_batch(&Written(bucket), &config.source, event.as_bytes())).unwrap();
    assert_eq!(answer.batch_item_failures, []);
}

/// The rows that a reader of the manifest must see, in the order of the offsets.
pub(crate) fn rows<'r>(records: impl IntoIterator<Item = (&'r u64, &'r Record)>) -> Vec<Row> {
    let row = |(offset, record): (&u64, &Record)| {
        let timestamp = Some(record.timestamp).filter(|time| *time >= 0);
        Some((*offset, timestamp, i64::try_from(*offset).unwrap(), record.note.clone()?))
    };
    records.into_iter().filter_map(row).collect()
}

pub(crate) fn manifest(bucket: &Memory) -> Manifest {
    bucket.read(MANIFEST).map(|body| serde_json::from_slice(&body).unwrap()).unwrap_or_default()
}

/// Reads the table as a reader does, by the manifest's list, and checks every object against the manifest.
pub(crate) fn table(bucket: &Memory) -> Vec<Row> {
    let mut all = Vec::new();
    for file in manifest(bucket).files {
        let body = bucket
            .read(&file.key)
            .unwrap_or_else(|| panic!("{} is in the manifest but not in the bucket", file.key));
        let rows =
            if file.key.ends_with(".parquet") { parquet_rows(body) } else { csv_rows(&file.key, &body) };

        assert!(rows.windows(2).all(|pair| pair[0].0 < pair[1].0), "{} is not in order", file.key);
        let ends = (rows.first().unwrap().0, rows.last().unwrap().0, rows.len() as u64);
        assert_eq!(ends, (file.first, file.last, file.rows), "{}", file.key);
        for (_, timestamp, ..) in &rows {
            assert_eq!(compact::Hour::of(*timestamp).to_string(), file.hour, "{}", file.key);
        }
        all.extend(rows);
    }
    all.sort();
    all
}

fn parquet_rows(body: bytes::Bytes) -> Vec<Row> {
    let reader = SerializedFileReader::new(body).unwrap();
    let row = |row: parquet::record::Row| {
        let fields: BTreeMap<&str, &Field> =
            row.get_column_iter().map(|(name, field)| (name.as_str(), field)).collect();
        let long = |name: &str| match fields[name] {
            Field::Long(value) | Field::TimestampMillis(value) => Some(*value),
            Field::Null => None,
            other => panic!("{name} is {other:?}"),
        };

        let Field::Str(note) = fields["note"] else { panic!("{:?}", fields["note"]) };
        let offset = u64::try_from(long("kafka_offset").unwrap()).unwrap();
        (offset, long("kafka_timestamp"), long("id").unwrap(), note.clone())
    };
    reader.get_row_iter(None).unwrap().map(|found| row(found.unwrap())).collect()
}

fn csv_rows(key: &str, body: &[u8]) -> Vec<Row> {
    let mut text = Vec::new();
    if key.ends_with(".gz") {
        flate2::read::GzDecoder::new(body).read_to_end(&mut text).unwrap();
    } else {
        text = zstd::decode_all(body).unwrap();
    }

    let mut parser = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_slice());
    let rows = parser.records().map(|row| {
        let row = row.unwrap();
        (row[4].parse().unwrap(), row[5].parse().ok(), row[0].parse().unwrap(), row[1].to_owned())
    });
    rows.collect()
}

/// Runs compaction until nothing is left. Every hour that has ended at `now` is closed.
pub(crate) fn run(bucket: &Memory, config: &Config, now: i64) {
    let closed = Timestamp::from_millisecond(now).unwrap();
    for _ in 0..10_000 {
        let outcome = block_on(compact(bucket, config, 0, closed));
        if outcome.is_ok_and(|done| !done.more && done.files == 0) {
            return;
        }
    }
    panic!("compaction does not come to an end");
}

/// The offsets of a set of ranges.
pub(crate) fn offsets(ranges: &Ranges) -> BTreeSet<u64> {
    ranges.iter().flat_map(|(first, last)| first..=last).collect()
}

/// The offsets that the objects of msk-to-s3 without gaps hold, as their keys say, tombstones included.
pub(crate) fn complete(bucket: &Memory) -> BTreeSet<u64> {
    let range = |key: String| {
        let name = key.rsplit('/').next()?.strip_suffix(".csv")?.to_owned();
        // customer-data-{time}-{first}-{last}; a sixth part is the digest of gaps.
        let parts: Vec<&str> = name.split('-').collect();
        let [_, _, _, first, last] = parts.as_slice() else { return None };
        Some(first.parse::<u64>().ok()?..=last.parse().ok()?)
    };
    bucket.keys("in/t/0/").into_iter().filter_map(range).flatten().collect()
}

/// Checks the end of a run: the manifest's lists for Athena are its files, and the bucket holds no other object of the
/// table.
pub(crate) fn assert_nothing_is_left_over(bucket: &Memory) {
    let manifest = manifest(bucket);
    assert_eq!(manifest.pending, None);

    let mut listed: Vec<String> = manifest.files.iter().map(|file| file.key.clone()).collect();

    let lists = bucket.keys("in/tables/t/_symlinks/");
    let text: Vec<u8> = lists.iter().flat_map(|key| bucket.read(key).unwrap().to_vec()).collect();
    let mut links: Vec<String> =
        String::from_utf8(text).unwrap().lines().map(|line| line.replace("s3://b/", "")).collect();

    let mut stored = bucket.keys("in/tables/t/hour=");
    listed.sort();
    links.sort();
    stored.sort();

    assert_eq!(listed, stored, "the bucket holds exactly the manifest's objects");
    assert_eq!(listed, links, "the lists for Athena name exactly the manifest's objects");
}
