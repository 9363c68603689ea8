//! The function's environment.

use postern_runtime::env::{Environment, InvalidVariable};

/// What a record's value is, and how it becomes a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A CSV line, passed through.
    Lines,
    /// A JSON object; its members become the fields.
    Json,
}

/// What is done to an object's bytes before they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Nothing.
    None,
    /// gzip; the object's name ends in `.gz`.
    Gzip,
    /// Zstandard; the object's name ends in `.zst`.
    Zstd,
}

/// What becomes of a line break in a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineBreaks {
    /// It stays, in quotes.
    Keep,
    /// It becomes a space.
    Space,
}

/// What Kafka knows of a record and a row can say, in trailing columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metadata {
    /// The topic's name.
    Topic,
    /// The partition's number.
    Partition,
    /// The record's offset: with topic and partition it is the record's identity.
    Offset,
    /// The record's time, in milliseconds since 1970; empty where the record has none.
    Timestamp,
    /// Whose clock that was: `CREATE_TIME` or `LOG_APPEND_TIME`.
    TimestampType,
    /// The record's key as text; bytes that are no UTF-8 become U+FFFD.
    Key,
    /// The record's headers, an array of objects of one member each; bytes as in the key.
    Headers,
    /// The id of the key's schema in its registry.
    KeySchemaId,
    /// The id of the value's schema in its registry.
    ValueSchemaId,
}

impl Metadata {
    /// Every column, with the word that asks for it and the name that it has in a header.
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
    pub(crate) fn column(self) -> &'static str {
        Self::ALL.iter().find(|(_, _, column)| *column == self).map_or("", |(_, name, _)| name)
    }
}

/// The environment, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `S3_BUCKET_NAME`: where the objects go.
    pub bucket: String,
    /// `KEY_PREFIX`: what every object's key begins with; empty, or ending in a slash.
    pub prefix: String,
    /// `RECORD_FORMAT`: `lines` or `json`.
    pub format: Format,
    /// `CSV_COLUMNS`: the fields of a row; empty in `json` means the first record's keys.
    pub columns: Vec<String>,
    /// `CSV_EXTRA_COLUMNS`: `drop`, or `fail`, which makes a record with a key that is no column a bad record.
    /// Unless it is set, keys are dropped where `CSV_COLUMNS` names the columns, and fail otherwise.
    pub drop_extra: bool,
    /// `CSV_HEADER`: whether every object begins with the names of its columns.
    pub header: bool,
    /// `CSV_METADATA_COLUMNS`: trailing columns with what Kafka knows of the record.
    pub metadata: Vec<Metadata>,
    /// `CSV_COMPRESSION`: `none`, `gzip` or `zstd`.
    pub compression: Compression,
    /// `CSV_NEUTRALIZE_FORMULAS`: whether a spreadsheet must not take a field for a formula.
    pub neutralize: bool,
    /// `CSV_LINE_BREAKS`: `keep`, or `space`, for readers that take every line break for a row's end (Athena).
    pub line_breaks: LineBreaks,
}

impl Settings {
    /// Reads and checks the environment.
    pub fn read(environment: &Environment<'_>) -> Result<Self, InvalidVariable> {
        let format = environment.parse("RECORD_FORMAT", "lines", |text| match text {
            "lines" => Ok(Format::Lines),
            "json" => Ok(Format::Json),
            _ => Err("it is neither lines nor json"),
        })?;
        let columns = environment.parse_or("CSV_COLUMNS", "", "id,name", columns)?;
        let header = environment.parse("CSV_HEADER", "false", |text| match flag(text) {
            Ok(true) if format == Format::Lines && columns.is_empty() => {
                Err("lines have no names of their own: a header needs CSV_COLUMNS")
            }
            flag => flag,
        })?;
        let named = if columns.is_empty() { "fail" } else { "drop" };
        Ok(Self {
            bucket: environment.required("S3_BUCKET_NAME", "my-bucket", bucket)?,
            prefix: environment.parse_or("KEY_PREFIX", "", "raw/", prefix)?,
            format,
            drop_extra: environment.parse("CSV_EXTRA_COLUMNS", named, |text| match text {
                "drop" => Ok(true),
                "fail" => Ok(false),
                _ => Err("it is neither drop nor fail"),
            })?,
            columns,
            header,
            metadata: environment.parse("CSV_METADATA_COLUMNS", "false", metadata)?,
            compression: environment.parse("CSV_COMPRESSION", "none", |text| match text {
                "none" => Ok(Compression::None),
                "gzip" => Ok(Compression::Gzip),
                "zstd" => Ok(Compression::Zstd),
                _ => Err("it is none of none, gzip, zstd"),
            })?,
            neutralize: environment.parse("CSV_NEUTRALIZE_FORMULAS", "false", flag)?,
            line_breaks: environment.parse("CSV_LINE_BREAKS", "keep", |text| match text {
                "keep" => Ok(LineBreaks::Keep),
                "space" => Ok(LineBreaks::Space),
                _ => Err("it is neither keep nor space"),
            })?,
        })
    }
}

fn flag(text: &str) -> Result<bool, &'static str> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("it is neither true nor false"),
    }
}

fn bucket(text: &str) -> Result<String, &'static str> {
    if text.contains(['/', ' ', ':']) { Err("it is no bucket's name") } else { Ok(text.to_owned()) }
}

/// The longest prefix: a key has at most 1,024 bytes, a topic 249, and our own part some 150.
const PREFIX_BYTES: usize = 512;

fn prefix(text: &str) -> Result<String, &'static str> {
    let text = text.trim_matches('/');
    if text.len() > PREFIX_BYTES {
        Err("it is longer than 512 bytes")
    } else if text.chars().any(char::is_control) {
        Err("it holds a control character")
    } else if text.is_empty() {
        Ok(String::new())
    } else {
        Ok(format!("{text}/"))
    }
}

fn columns(text: &str) -> Result<Vec<String>, &'static str> {
    let mut columns: Vec<String> = Vec::new();
    for name in text.split(',').map(str::trim) {
        if name.is_empty() && text.is_empty() {
            break;
        } else if name.is_empty() {
            return Err("a column has no name");
        } else if columns.iter().any(|known| known == name) {
            return Err("a column is named twice");
        }
        columns.push(name.to_owned());
    }
    Ok(columns)
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
                return Err(
                    "it is neither true, nor false, nor a list of topic, partition, offset, timestamp, \
                            timestamp_type, key, headers, key_schema_id and value_schema_id",
                );
            }
        }
    }
    Ok(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(list: &[(&str, &str)]) -> Result<Settings, String> {
        let list = [&[("S3_BUCKET_NAME", "b")], list].concat();
        Settings::read(&Environment::of(&list)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_the_seeds() {
        let settings = read(&[]).unwrap();
        assert_eq!(settings.format, Format::Lines);
        assert_eq!((settings.prefix.as_str(), settings.header, settings.neutralize), ("", false, false));
        assert_eq!((settings.columns, settings.metadata), (Vec::new(), Vec::new()));
        assert_eq!(settings.compression, Compression::None);
    }

    #[test]
    fn everything_can_be_set() {
        let settings = read(&[
            ("KEY_PREFIX", "/in/kafka/"),
            ("RECORD_FORMAT", "json"),
            ("CSV_COLUMNS", "id, name"),
            ("CSV_HEADER", "true"),
            ("CSV_METADATA_COLUMNS", "true"),
            ("CSV_COMPRESSION", "zstd"),
            ("CSV_NEUTRALIZE_FORMULAS", "true"),
            ("CSV_LINE_BREAKS", "space"),
        ])
        .unwrap();
        assert_eq!(settings.prefix, "in/kafka/");
        assert_eq!(settings.columns, ["id", "name"]);
        assert!(settings.drop_extra && settings.header && settings.neutralize);
        assert_eq!(settings.line_breaks, LineBreaks::Space);
        assert_eq!(
            settings.metadata.iter().map(|column| column.column()).collect::<Vec<_>>(),
            ["kafka_topic", "kafka_partition", "kafka_offset", "kafka_timestamp"]
        );
        assert_eq!(read(&[("CSV_METADATA_COLUMNS", "key, headers")]).unwrap().metadata.len(), 2);
    }

    #[test]
    fn other_keys_fail_only_where_nobody_named_the_columns() {
        assert!(!read(&[("RECORD_FORMAT", "json")]).unwrap().drop_extra);
        assert!(read(&[("RECORD_FORMAT", "json"), ("CSV_EXTRA_COLUMNS", "drop")]).unwrap().drop_extra);
        assert!(!read(&[("CSV_COLUMNS", "a"), ("CSV_EXTRA_COLUMNS", "fail")]).unwrap().drop_extra);
    }

    #[test]
    fn a_mistake_is_named_with_what_would_be_right() {
        for (list, problem) in [
            (&[("RECORD_FORMAT", "xml")][..], "RECORD_FORMAT: it is neither lines nor json; set it like"),
            (&[("CSV_HEADER", "true")], "CSV_HEADER: lines have no names of their own"),
            (&[("CSV_HEADER", "1")], "CSV_HEADER: it is neither true nor false"),
            (&[("CSV_COLUMNS", "a,,b")], "CSV_COLUMNS: a column has no name"),
            (&[("CSV_COLUMNS", "a,b,a")], "CSV_COLUMNS: a column is named twice"),
            (&[("CSV_METADATA_COLUMNS", "offset,size")], "CSV_METADATA_COLUMNS: it is neither"),
            (&[("CSV_COMPRESSION", "lz4")], "CSV_COMPRESSION: it is none of"),
            (&[("KEY_PREFIX", "a\nb")], "KEY_PREFIX: it holds a control character"),
        ] {
            let error = read(list).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
        let error = Settings::read(&Environment::of(&[])).unwrap_err().to_string();
        assert_eq!(
            error,
            "environment variable S3_BUCKET_NAME: it is not set; set it like S3_BUCKET_NAME=my-bucket"
        );
    }
}
