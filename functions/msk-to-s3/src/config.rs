//! The function's configuration, read from environment variables at cold start.

use postern_runtime::env::{Environment, InvalidVariable};

use crate::column::{self, Column};

/// How a record's value becomes a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The value is a CSV line and is passed through.
    Lines,
    /// The value is a JSON object, whose members become the fields.
    Json,
}

/// How objects are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Objects are not compressed.
    None,
    /// Objects are compressed with gzip. Their keys end in `.gz`.
    Gzip,
    /// Objects are compressed with Zstandard. Their keys end in `.zst`.
    Zstd,
}

/// How a line break in a field is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineBreaks {
    /// The line break stays in the field, which is quoted.
    Keep,
    /// A space replaces the line break.
    Space,
}

/// The folders of the objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyLayout {
    /// A folder for each partition. Compaction needs this layout.
    Partition,
    /// A folder for each hour of the records' timestamps, as Hive names them. A batch becomes an object for each hour.
    Time,
}

/// A trailing column with a property that Kafka keeps beside a record's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metadata {
    /// The topic's name.
    Topic,
    /// The partition's number.
    Partition,
    /// The record's offset. Topic, partition and offset identify a record.
    Offset,
    /// The record's timestamp in milliseconds since 1970; empty for a record without one.
    Timestamp,
    /// The clock of the timestamp: `CREATE_TIME` (producer) or `LOG_APPEND_TIME` (broker).
    TimestampType,
    /// The record's key as text; bytes that are not UTF-8 become U+FFFD.
    Key,
    /// The record's headers, a JSON array of objects with one member each; bytes as in the key.
    Headers,
    /// The id of the key's schema in the schema registry.
    KeySchemaId,
    /// The id of the value's schema in the schema registry.
    ValueSchemaId,
}

impl Metadata {
    /// Each column with its word in `CSV_METADATA_COLUMNS` and its name in a header.
    const ALL: [(&'static str, &'static str, Self); 9] = [
        ("topic", "kafka_topic", Self::Topic),
        ("partition", "kafka_partition", Self::Partition),
        ("offset", "kafka_offset", Self::Offset),
        ("timestamp", "kafka_timestamp", Self::Timestamp),
        ("timestamp_type", "kafka_timestamp_type", Self::TimestampType),
        ("key", "kafka_key", Self::Key),
        ("headers", "kafka_headers", Self::Headers),
        ("key_schema_id", "kafka_key_schema_id", Self::KeySchemaId),
        ("value_schema_id", "kafka_value_schema_id", Self::ValueSchemaId),
    ];

    /// The column's name in a header.
    pub fn column(self) -> &'static str {
        Self::ALL.iter().find(|(_, _, column)| *column == self).map_or("", |(_, name, _)| name)
    }
}

/// The function's configuration. Each field names its variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `S3_BUCKET_NAME`: the bucket to which objects are written.
    pub bucket: String,
    /// `KEY_PREFIX`: the beginning of every key; empty, or ending in a slash.
    pub prefix: String,
    /// `CSV_KEY_LAYOUT`: `partition` or `time`.
    pub layout: KeyLayout,
    /// `RECORD_FORMAT`: `lines` or `json`.
    pub format: Format,
    /// `CSV_COLUMNS`: a row's fields. If it is empty in `json` mode, the keys of an object's first record are the columns.
    pub columns: Vec<Column>,
    /// `CSV_EXTRA_COLUMNS`: `drop` ignores keys that are not columns; `fail` makes such a record a bad record. The
    /// default is `drop` if `CSV_COLUMNS` is set, and `fail` otherwise.
    pub drop_extra: bool,
    /// `CSV_HEADER`: whether each object begins with the names of its columns.
    pub header: bool,
    /// `CSV_METADATA_COLUMNS`: the trailing columns with properties of the record.
    pub metadata: Vec<Metadata>,
    /// `CSV_COMPRESSION`: `none`, `gzip` or `zstd`.
    pub compression: Compression,
    /// `CSV_NEUTRALIZE_FORMULAS`: whether a field that a spreadsheet would run as a formula gets an apostrophe.
    pub neutralize: bool,
    /// `CSV_LINE_BREAKS`: `keep`, or `space` for readers such as Athena, which end a row at every line break.
    pub line_breaks: LineBreaks,
}

impl Config {
    /// Reads and checks the environment variables.
    pub fn from_env(environment: &Environment<'_>) -> Result<Self, InvalidVariable> {
        let format = environment.parse("RECORD_FORMAT", "lines", |text| match text {
            "lines" => Ok(Format::Lines),
            "json" => Ok(Format::Json),
            _ => Err("it must be lines or json"),
        })?;
        let columns =
            environment.parse_or("CSV_COLUMNS", "", "id:int64,city=customer.city", column::parse)?;

        let header = environment.parse("CSV_HEADER", "false", |text| match flag(text) {
            Ok(true) if format == Format::Lines && columns.is_empty() => {
                Err("in lines mode a header needs the names in CSV_COLUMNS")
            }
            flag => flag,
        })?;

        let default_for_extra = if columns.is_empty() { "fail" } else { "drop" };
        Ok(Self {
            bucket: environment.required("S3_BUCKET_NAME", "my-bucket", bucket)?,
            prefix: environment.parse_or("KEY_PREFIX", "", "raw/", prefix)?,
            layout: environment.parse("CSV_KEY_LAYOUT", "partition", |text| match text {
                "partition" => Ok(KeyLayout::Partition),
                "time" => Ok(KeyLayout::Time),
                _ => Err("it must be partition or time"),
            })?,
            format,
            drop_extra: environment.parse("CSV_EXTRA_COLUMNS", default_for_extra, |text| match text {
                "drop" => Ok(true),
                "fail" => Ok(false),
                _ => Err("it must be drop or fail"),
            })?,
            columns,
            header,
            metadata: environment.parse("CSV_METADATA_COLUMNS", "false", metadata)?,
            compression: environment.parse("CSV_COMPRESSION", "none", |text| match text {
                "none" => Ok(Compression::None),
                "gzip" => Ok(Compression::Gzip),
                "zstd" => Ok(Compression::Zstd),
                _ => Err("it must be none, gzip or zstd"),
            })?,
            neutralize: environment.parse("CSV_NEUTRALIZE_FORMULAS", "false", flag)?,
            line_breaks: environment.parse("CSV_LINE_BREAKS", "keep", |text| match text {
                "keep" => Ok(LineBreaks::Keep),
                "space" => Ok(LineBreaks::Space),
                _ => Err("it must be keep or space"),
            })?,
        })
    }
}

fn flag(text: &str) -> Result<bool, &'static str> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("it must be true or false"),
    }
}

fn bucket(text: &str) -> Result<String, &'static str> {
    if text.contains(['/', ' ', ':']) {
        Err("it must be the name of a bucket, without slashes, spaces or colons")
    } else {
        Ok(text.to_owned())
    }
}

/// The longest prefix. A key has at most 1,024 bytes, of which a topic takes up to 249 and the rest about 150.
const MAX_PREFIX_BYTES: usize = 512;

fn prefix(text: &str) -> Result<String, &'static str> {
    let text = text.trim_matches('/');

    if text.len() > MAX_PREFIX_BYTES {
        Err("it must not be longer than 512 bytes")
    } else if text.chars().any(char::is_control) {
        Err("it must not contain control characters")
    } else if text.is_empty() {
        Ok(String::new())
    } else {
        Ok(format!("{text}/"))
    }
}

fn metadata(text: &str) -> Result<Vec<Metadata>, &'static str> {
    let words = match text {
        "false" => return Ok(Vec::new()),
        "true" => "topic,partition,offset,timestamp",
        list => list,
    };

    let mut columns = Vec::new();
    for word in words.split(',').map(str::trim) {
        match Metadata::ALL.iter().find(|(name, ..)| *name == word) {
            Some((_, _, column)) if columns.contains(column) => return Err("a column is named twice"),
            Some((_, _, column)) => columns.push(*column),
            None => {
                return Err("it must be true, false, or a list of topic, partition, offset, timestamp, \
                            timestamp_type, key, headers, key_schema_id, value_schema_id");
            }
        }
    }

    Ok(columns)
}

#[cfg(test)]
mod tests;
