//! Writes the trailing columns of a row: the properties that Kafka keeps beside a record's value.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::Write as _;

use serde::Deserialize;

use crate::bad_record::BadRecord;
use crate::config::Metadata;
use crate::csv::Fields;
use crate::event::{Partition, Payload, Record};
use crate::json::Text;
use crate::payload::decode;

/// Writes the columns that `CSV_METADATA_COLUMNS` lists.
pub(super) struct MetadataWriter<'c> {
    columns: &'c [Metadata],
    fields: Fields,
    /// Decoded keys go through this buffer, which keeps its memory from one record to the next.
    buffer: Vec<u8>,
}

impl<'c> MetadataWriter<'c> {
    pub(super) fn new(columns: &'c [Metadata], fields: Fields) -> Self {
        Self { columns, fields, buffer: Vec::new() }
    }

    /// Appends the columns, each after a comma. A row always has a field before them, even if it is empty.
    pub(super) fn write(&mut self, csv: &mut Vec<u8>, partition: &Partition, record: &Record<'_>) {
        for column in self.columns {
            csv.push(b',');
            match column {
                Metadata::Topic => csv.extend_from_slice(partition.topic.as_bytes()),
                Metadata::Partition => write_number(csv, partition.number.into()),
                Metadata::Offset => write_number(csv, record.offset),
                Metadata::Timestamp => record.timestamp.into_iter().for_each(|time| write_number(csv, time)),
                Metadata::TimestampType => {
                    self.write_text(csv, record.timestamp_type.and_then(Text::unescape));
                }
                Metadata::Key => self.write_key(csv, record.key),
                Metadata::Headers => self.write_text(csv, record.headers.map(headers_as_text)),
                Metadata::KeySchemaId => self.write_text(csv, record.key_schema.and_then(schema_id)),
                Metadata::ValueSchemaId => self.write_text(csv, record.value_schema.and_then(schema_id)),
            }
        }
    }

    fn write_text<T: AsRef<str>>(&self, csv: &mut Vec<u8>, text: Option<T>) {
        if let Some(text) = text {
            self.fields.text(csv, text.as_ref());
        }
    }

    /// Writes the key as text, with U+FFFD for bytes that are not UTF-8. A key that is not base64 is an empty text.
    fn write_key(&mut self, csv: &mut Vec<u8>, key: Payload<'_>) {
        let Payload::Base64(text) = key else { return };
        let key = match decode(text, &mut self.buffer) {
            Err(BadRecord::NotUtf8) | Ok(_) => String::from_utf8_lossy(&self.buffer),
            Err(_) => Cow::Borrowed(""),
        };
        self.fields.text(csv, &key);
    }
}

fn write_number(csv: &mut Vec<u8>, number: u64) {
    // Writing to a vector cannot fail.
    let _ = write!(csv, "{number}");
}

/// The schema's id in a record's `keySchemaMetadata` or `valueSchemaMetadata`.
fn schema_id(metadata: &str) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Schema {
        schema_id: serde_json::Value,
    }

    match serde_json::from_str::<Schema>(metadata).ok()?.schema_id {
        serde_json::Value::Null => None,
        serde_json::Value::String(id) => Some(id),
        id => Some(id.to_string()),
    }
}

/// The headers as JSON, with text instead of byte arrays. Lambda sends Java's signed bytes, other senders unsigned
/// ones; array elements that are neither are left out.
fn headers_as_text(headers: &str) -> String {
    let Ok(serde_json::Value::Array(list)) = serde_json::from_str(headers) else { return String::new() };
    let mut text = String::from("[");

    for (name, value) in list.iter().filter_map(|header| header.as_object()).flatten() {
        let bytes: Vec<u8> = value
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|byte| byte.as_i64().and_then(byte_from))
            .collect();
        let value =
            if value.is_null() { serde_json::Value::Null } else { String::from_utf8_lossy(&bytes).into() };

        if text.len() > 1 {
            text.push(',');
        }
        // Writing to a string cannot fail.
        let _ = write!(text, "{{{}:{value}}}", serde_json::Value::from(name.as_str()));
    }

    text.push(']');
    text
}

fn byte_from(number: i64) -> Option<u8> {
    u8::try_from(number).ok().or_else(|| i8::try_from(number).ok().map(i8::cast_unsigned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_is_between_minus_128_and_255() {
        assert_eq!([-128, -1, 0, 127, 128, 255].map(byte_from), [128, 255, 0, 127, 128, 255].map(Some));
        assert_eq!([-129, 256].map(byte_from), [None, None]);
    }
}
