//! The function's configuration, read from environment variables at cold start.

use std::time::Duration;

use msk_to_s3::{KeyLayout, Metadata};
use postern_runtime::env::{Environment, InvalidVariable};

/// The format of a table's objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Parquet, compressed with Snappy.
    Parquet,
    /// CSV, compressed with gzip.
    CsvGzip,
    /// CSV, compressed with Zstandard.
    CsvZstd,
}

impl Format {
    /// The end of the keys of a table's objects.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::Parquet => ".parquet",
            Self::CsvGzip => ".csv.gz",
            Self::CsvZstd => ".csv.zst",
        }
    }

    /// The format of an object with this key.
    pub(crate) fn of(key: &str) -> Option<Self> {
        [Self::Parquet, Self::CsvGzip, Self::CsvZstd]
            .into_iter()
            .find(|format| key.ends_with(format.suffix()))
    }
}

/// The function's configuration. Each field names its variable.
#[derive(Debug, Clone)]
pub struct Config {
    /// The configuration of msk-to-s3, whose objects are compacted: the same variables with the same values.
    pub source: msk_to_s3::Config,
    /// `KAFKA_TOPIC`: the topic.
    pub topic: String,
    /// `TABLE_FORMAT`: `parquet`, `csv.gz` or `csv.zst`.
    pub format: Format,
    /// `COMPACT_GRACE_MINUTES`: how long after its end an hour is left open for records that arrive late.
    pub grace: Duration,
    /// `COMPACT_MAX_MEGABYTES`: the most uncompressed text that one run reads. A larger hour takes several runs.
    pub most_bytes: u64,
}

impl Config {
    /// Reads and checks the environment variables.
    pub fn from_env(environment: &Environment<'_>) -> Result<Self, InvalidVariable> {
        let source = msk_to_s3::Config::from_env(environment)?;
        environment.parse_or("CSV_COLUMNS", "", "id:int64,city=customer.city", |_| {
            if source.columns.is_empty() { Err("compaction needs the names of the columns") } else { Ok(()) }
        })?;
        environment.parse_or("CSV_KEY_LAYOUT", "partition", "partition", |_| {
            // The objects of a partition would be in the folders of all hours, which late records may belong to.
            if source.layout == KeyLayout::Partition {
                Ok(())
            } else {
                Err("compaction needs the layout partition")
            }
        })?;
        environment.parse_or("CSV_METADATA_COLUMNS", "false", "true", |_| {
            if [Metadata::Offset, Metadata::Timestamp].iter().all(|column| source.metadata.contains(column)) {
                Ok(())
            } else {
                Err("compaction needs the columns offset and timestamp")
            }
        })?;

        Ok(Self {
            source,
            topic: environment.required("KAFKA_TOPIC", "customer", topic)?,
            format: environment.parse("TABLE_FORMAT", "parquet", |text| match text {
                "parquet" => Ok(Format::Parquet),
                "csv.gz" => Ok(Format::CsvGzip),
                "csv.zst" => Ok(Format::CsvZstd),
                _ => Err("it must be parquet, csv.gz or csv.zst"),
            })?,
            grace: environment.parse("COMPACT_GRACE_MINUTES", "10", |text| {
                text.parse::<u32>().map(|minutes| Duration::from_secs(u64::from(minutes) * 60))
            })?,
            most_bytes: environment.parse("COMPACT_MAX_MEGABYTES", "1024", |text| {
                text.parse::<u32>().map(|megabytes| u64::from(megabytes.max(1)) * 1_000_000)
            })?,
        })
    }

    /// The prefix of the objects that msk-to-s3 writes for a partition.
    pub(crate) fn source_prefix(&self, partition: u32) -> String {
        format!("{}{}/{partition}/", self.source.prefix, self.topic)
    }

    /// The prefix of everything that belongs to the topic's table.
    pub(crate) fn table_prefix(&self) -> String {
        format!("{}tables/{}/", self.source.prefix, self.topic)
    }
}

fn topic(text: &str) -> Result<String, &'static str> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if text.bytes().all(legal) { Ok(text.to_owned()) } else { Err("it must be the name of a topic") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(list: &[(&str, &str)]) -> Result<Config, String> {
        let all = [&[("S3_BUCKET_NAME", "b"), ("KAFKA_TOPIC", "t")], list].concat();
        Config::from_env(&Environment::of(&all)).map_err(|error| error.to_string())
    }

    #[test]
    fn what_compaction_cannot_work_with_is_an_error() {
        for (list, problem) in [
            (&[("CSV_METADATA_COLUMNS", "true")][..], "CSV_COLUMNS: compaction needs the names"),
            (
                &[("CSV_COLUMNS", "a"), ("CSV_METADATA_COLUMNS", "true"), ("CSV_KEY_LAYOUT", "time")],
                "CSV_KEY_LAYOUT: compaction needs the layout partition",
            ),
            (
                &[("CSV_COLUMNS", "a"), ("CSV_METADATA_COLUMNS", "offset")],
                "CSV_METADATA_COLUMNS: compaction needs",
            ),
            (
                &[("CSV_COLUMNS", "a"), ("CSV_METADATA_COLUMNS", "true"), ("TABLE_FORMAT", "orc")],
                "TABLE_FORMAT: it must be",
            ),
        ] {
            let error = read(list).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
    }

    #[test]
    fn a_table_is_parquet_unless_the_configuration_says_otherwise() {
        let config =
            read(&[("CSV_COLUMNS", "a"), ("CSV_METADATA_COLUMNS", "true"), ("KEY_PREFIX", "in")]).unwrap();
        assert_eq!((config.format, config.grace), (Format::Parquet, Duration::from_mins(10)));
        assert_eq!(
            (config.source_prefix(3), config.table_prefix()),
            ("in/t/3/".into(), "in/tables/t/".into())
        );
        assert_eq!(Format::of("x/0-1-2.csv.zst"), Some(Format::CsvZstd));
    }
}
