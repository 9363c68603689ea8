//! An object: its key, which says exactly which records are in it, and its bytes.

use std::io::Write as _;

use flate2::GzBuilder;
use jiff::Timestamp;

use crate::convert::Run;
use crate::event::Partition;
use crate::settings::{Compression, Settings};

/// What is put into the bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Where.
    pub key: String,
    /// Of what type.
    pub content_type: &'static str,
    /// The bytes.
    pub body: Vec<u8>,
}

impl Object {
    /// The object of a run; none if the run has no rows.
    pub(crate) fn of(settings: &Settings, partition: &Partition, run: Run) -> std::io::Result<Option<Self>> {
        if run.rows == 0 {
            return Ok(None);
        }
        let key = key(settings, partition, &run);
        let (content_type, body) = match settings.compression {
            Compression::None => ("text/csv; charset=utf-8", run.csv),
            Compression::Gzip => {
                // No name and no time in it: the same records are the same bytes.
                let mut gzip = GzBuilder::new().write(Vec::new(), flate2::Compression::default());
                gzip.write_all(&run.csv)?;
                ("application/gzip", gzip.finish()?)
            }
            Compression::Zstd => ("application/zstd", zstd::encode_all(run.csv.as_slice(), 3)?),
        };
        Ok(Some(Self { key, content_type, body }))
    }
}

/// `{prefix}{topic}/{partition}/customer-data-{first record's time}-{first offset}-{last offset}[-{gaps}].csv`.
///
/// The same key is the same set of records: all between the two offsets, or all but the ones that the digest of the
/// gaps stands for. That is what lets "it exists" mean "these records are written" (`docs/kafka.md`).
fn key(settings: &Settings, partition: &Partition, run: &Run) -> String {
    let Partition { topic, number, .. } = partition;
    let time = run
        .time
        .and_then(|time| i64::try_from(time).ok())
        .and_then(|time| Timestamp::from_millisecond(time).ok())
        .map_or_else(|| "undated".to_owned(), |time| time.strftime("%Y%m%dT%H%M%SZ").to_string());
    let gaps = run.gaps().map_or_else(String::new, |gaps| format!("-{gaps}"));
    let suffix = match settings.compression {
        Compression::None => "",
        Compression::Gzip => ".gz",
        Compression::Zstd => ".zst",
    };
    format!(
        "{}{topic}/{number}/customer-data-{time}-{:020}-{:020}{gaps}.csv{suffix}",
        settings.prefix, run.first, run.last
    )
}
