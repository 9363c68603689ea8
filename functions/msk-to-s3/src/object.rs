//! The S3 object of a run: its key, which identifies exactly the records in it, and its content.

use std::io::Write as _;

use flate2::GzBuilder;
use jiff::Timestamp;

use crate::config::{Compression, Config, KeyLayout};
use crate::convert::Run;
use crate::event::Partition;

/// An object to be written to the bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// The S3 key.
    pub key: String,
    /// The Content-Type.
    pub content_type: &'static str,
    /// The content, compressed if the configuration asks for it.
    pub body: Vec<u8>,
}

impl Object {
    /// The object of a run, or `None` if the run has no rows.
    pub(crate) fn of(config: &Config, partition: &Partition, run: Run) -> std::io::Result<Option<Self>> {
        if run.rows == 0 {
            return Ok(None);
        }

        let key = key(config, partition, &run);
        let (content_type, body) = match config.compression {
            Compression::None => ("text/csv; charset=utf-8", run.table.csv),
            Compression::Gzip => {
                // The gzip header has no name and no time, so the same records give the same bytes.
                let mut gzip = GzBuilder::new().write(Vec::new(), flate2::Compression::default());
                gzip.write_all(&run.table.csv)?;
                ("application/gzip", gzip.finish()?)
            }
            Compression::Zstd => ("application/zstd", zstd::encode_all(run.table.csv.as_slice(), 3)?),
        };

        Ok(Some(Self { key, content_type, body }))
    }
}

/// What Hive and its readers name the folder of rows without a value.
const NO_VALUE: &str = "__HIVE_DEFAULT_PARTITION__";

/// `{prefix}{topic}/{partition}/customer-data-{first record's time}-{first offset}-{last offset}[-{gaps}].csv`, or with the
/// layout `time` `{prefix}{topic}/date={date}/hour={hour}/customer-data-{partition}-{first record's time}-...`.
///
/// A key stands for one set of records: every offset from the first to the last, except those whose digest is `gaps`.
/// An object that already exists under the key therefore contains the same records
/// (`docs/kafka/why-nothing-is-lost.md`).
fn key(config: &Config, partition: &Partition, run: &Run) -> String {
    let Partition { topic, number, .. } = partition;
    let time = run
        .time
        .and_then(|time| i64::try_from(time).ok())
        .and_then(|time| Timestamp::from_millisecond(time).ok());
    let name = match config.layout {
        KeyLayout::Partition => format!("{number}/customer-data"),
        KeyLayout::Time => format!("{}/customer-data-{number}", folder_of_hour(time)),
    };
    let time = time.map_or_else(|| "undated".to_owned(), |time| time.strftime("%Y%m%dT%H%M%SZ").to_string());

    let gaps = run.gaps().map_or_else(String::new, |gaps| format!("-{gaps}"));
    let suffix = match config.compression {
        Compression::None => "",
        Compression::Gzip => ".gz",
        Compression::Zstd => ".zst",
    };

    format!("{}{topic}/{name}-{time}-{:020}-{:020}{gaps}.csv{suffix}", config.prefix, run.first, run.last)
}

/// The folders of a time's hour.
fn folder_of_hour(time: Option<Timestamp>) -> String {
    match time {
        Some(time) => time.strftime("date=%Y-%m-%d/hour=%H").to_string(),
        None => format!("date={NO_VALUE}/hour={NO_VALUE}"),
    }
}
