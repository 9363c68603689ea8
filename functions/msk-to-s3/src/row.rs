//! A record becomes a row: its value by the format, then what Kafka knows of it.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::Write as _;

use serde::Deserialize;

use crate::csv::{Bad, Fields};
use crate::event::{Partition, Payload, Record};
use crate::json::{Kind, Reader, Text};
use crate::settings::{Format, Metadata, Settings};

/// Decodes base64 into `buffer`, which keeps its memory from one record to the next.
pub(crate) fn decode<'b>(text: Text<'_>, buffer: &'b mut Vec<u8>) -> Result<&'b str, Bad> {
    buffer.clear();
    // Some writers of JSON put a backslash before the slashes that base64 is full of.
    let text = text.unescape().ok_or(Bad::NotBase64)?;
    base64_simd::STANDARD.decode_append(text.as_bytes(), buffer).map_err(|_| Bad::NotBase64)?;
    simdutf8::basic::from_utf8(buffer).map_err(|_| Bad::NotUtf8)
}

/// The most columns that a record may name: keys are looked up one by one.
const COLUMNS: usize = 1_024;

/// A column of an object's rows.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    name: String,
    /// The name as a key of JSON, quotes and colon included.
    token: String,
}

impl Column {
    fn of(name: &str) -> Self {
        Self { name: name.to_owned(), token: format!("{}:", serde_json::Value::from(name)) }
    }
}

/// Makes rows, by the settings.
pub(crate) struct Rows<'s> {
    settings: &'s Settings,
    /// Those that the settings name.
    columns: Vec<Column>,
    fields: Fields,
    slots: Vec<Slot>,
    text: Vec<u8>,
}

/// Where a column's value stands in the record; the last one wins where a key comes twice.
#[derive(Debug, Clone, Copy)]
struct Slot {
    kind: Kind,
    /// Of a string: whether it has escapes.
    escaped: bool,
    /// A string's quotes are not in it.
    start: usize,
    end: usize,
}

impl Slot {
    const EMPTY: Self = Self { kind: Kind::Null, escaped: false, start: 0, end: 0 };
}

impl<'s> Rows<'s> {
    pub(crate) fn new(settings: &'s Settings) -> Self {
        let fields = Fields { neutralize: settings.neutralize, line_breaks: settings.line_breaks };
        let columns = settings.columns.iter().map(|name| Column::of(name)).collect();
        Self { settings, columns, fields, slots: Vec::new(), text: Vec::new() }
    }

    /// Adds the record's row to `out`, which begins with a header if it was empty and one is wanted. `columns` are
    /// the columns so far, if the first record has named them. A bad record changes nothing.
    pub(crate) fn add(
        &mut self,
        out: &mut Vec<u8>,
        columns: &mut Vec<Column>,
        partition: &Partition,
        record: &Record<'_>,
        value: &str,
    ) -> Result<(), Bad> {
        let start = out.len();
        let added = match self.settings.format {
            Format::Lines => {
                if start == 0 {
                    self.header(out, &self.columns);
                }
                let line = out.len();
                self.fields.line(out, value, self.columns.len()).map(|()| line)
            }
            Format::Json => self.object(out, columns, value),
        };
        let row = added.inspect_err(|_| out.truncate(start))?;
        self.metadata(out, partition, record);
        if out.len() == row {
            // A row of one empty field: most readers skip an empty line, none a pair of quotes.
            out.extend_from_slice(b"\"\"");
        }
        out.push(b'\n');
        Ok(())
    }

    fn header(&self, out: &mut Vec<u8>, columns: &[Column]) {
        if !self.settings.header {
            return;
        }
        let names = columns.iter().map(|column| column.name.as_str());
        let metadata = self.settings.metadata.iter().map(|column| column.column());
        for (at, name) in names.chain(metadata).enumerate() {
            out.extend_from_slice(if at == 0 { b"" } else { b"," });
            self.fields.text(out, name);
        }
        out.push(b'\n');
    }

    /// Adds a JSON object's fields; answers where the row begins.
    fn object(&mut self, out: &mut Vec<u8>, columns: &mut Vec<Column>, value: &str) -> Result<usize, Bad> {
        let learn = columns.is_empty() && self.columns.is_empty();
        if learn {
            let mut own = Vec::new();
            self.find(value, &mut own, true)?;
            if own.is_empty() {
                return Err(Bad::NoColumns);
            }
            *columns = own;
        } else if columns.is_empty() {
            columns.clone_from(&self.columns);
        }
        if out.is_empty() {
            self.header(out, columns);
        }
        let row = out.len();
        if learn || self.in_order(out, columns, value).is_none() {
            out.truncate(row);
            if !learn {
                self.find(value, columns, false)?;
            }
            for (at, slot) in self.slots.iter().enumerate() {
                out.extend_from_slice(if at == 0 { b"" } else { b"," });
                let text = Text::again(&value[slot.start..slot.end], slot.escaped);
                self.field(out, slot.kind, text).ok_or(Bad::NotAnObject)?;
            }
        }
        Ok(row)
    }

    /// Adds the fields of an object whose keys are the columns in their order, as most records' are: none has to be
    /// looked up. `None` if it is not such an object; what was added is worth nothing then.
    fn in_order(&self, out: &mut Vec<u8>, columns: &[Column], value: &str) -> Option<()> {
        let mut reader = Reader::new(value);
        let mut members = reader.object().ok()?;
        for (at, column) in columns.iter().enumerate() {
            if !reader.is_key(&mut members, &column.token) {
                return None;
            }
            out.extend_from_slice(if at == 0 { b"" } else { b"," });
            let kind = reader.kind().ok()?;
            let text = match kind {
                Kind::String => reader.string().ok()?,
                _ => Text::again(reader.value().ok()?, false),
            };
            self.field(out, kind, text)?;
        }
        let whole = reader.key(&mut members).ok()?.is_none() && reader.end().is_ok();
        whole.then_some(())
    }

    /// Adds one value; `None` if it is a string and no text.
    fn field(&self, out: &mut Vec<u8>, kind: Kind, text: Text<'_>) -> Option<()> {
        match kind {
            Kind::Null => {}
            Kind::Number | Kind::Literal => out.extend_from_slice(text.raw().as_bytes()),
            Kind::String | Kind::Object | Kind::Array => self.fields.text(out, &text.unescape()?),
        }
        Some(())
    }

    /// Reads the whole object and notes where each column's value stands. With `learn`, its keys are the columns.
    fn find(&mut self, value: &str, columns: &mut Vec<Column>, learn: bool) -> Result<(), Bad> {
        let not_an_object = |_| Bad::NotAnObject;
        self.slots.clear();
        self.slots.resize(columns.len(), Slot::EMPTY);
        let mut reader = Reader::new(value);
        let mut members = reader.object().map_err(not_an_object)?;
        // Records of one topic mostly have the same keys in the same order.
        let mut expected = 0;
        loop {
            let column =
                if columns.get(expected).is_some_and(|column| reader.is_key(&mut members, &column.token)) {
                    Some(expected)
                } else {
                    let Some(key) = reader.key(&mut members).map_err(not_an_object)? else { break };
                    let key = key.unescape().ok_or(Bad::NotAnObject)?;
                    self.column(columns, &key, learn)?
                };
            let kind = reader.kind().map_err(not_an_object)?;
            let start = reader.at();
            let slot = if kind == Kind::String {
                let text = reader.string().map_err(not_an_object)?;
                // Half of a surrogate pair is no text: better a bad record than a field that was changed.
                if text.escaped() && text.unescape().is_none() {
                    return Err(Bad::NotAnObject);
                }
                Slot { kind, escaped: text.escaped(), start: start + 1, end: reader.at() - 1 }
            } else {
                reader.value().map_err(not_an_object)?;
                Slot { kind, escaped: false, start, end: reader.at() }
            };
            if let Some(column) = column {
                self.slots[column] = slot;
                expected = column + 1;
            }
        }
        reader.end().map_err(not_an_object)
    }

    /// Which column a key is; none if it is to be dropped. With `learn`, a key that is no column becomes one.
    fn column(&mut self, columns: &mut Vec<Column>, key: &str, learn: bool) -> Result<Option<usize>, Bad> {
        let known = columns.iter().position(|column| column.name == key);
        if known.is_some() {
            return Ok(known);
        }
        if learn && columns.len() == COLUMNS {
            return Err(Bad::TooManyColumns);
        }
        if learn {
            columns.push(Column::of(key));
            self.slots.push(Slot::EMPTY);
            return Ok(Some(columns.len() - 1));
        }
        if self.settings.drop_extra { Ok(None) } else { Err(Bad::ExtraColumn) }
    }

    fn metadata(&mut self, out: &mut Vec<u8>, partition: &Partition, record: &Record<'_>) {
        for column in &self.settings.metadata {
            // In lines mode the value may have been an empty line, which is a field all the same.
            out.push(b',');
            match column {
                Metadata::Topic => out.extend_from_slice(partition.topic.as_bytes()),
                Metadata::Partition => digits(out, partition.number.into()),
                Metadata::Offset => digits(out, record.offset),
                Metadata::Timestamp => record.timestamp.into_iter().for_each(|time| digits(out, time)),
                Metadata::TimestampType => {
                    if let Some(text) = record.timestamp_type.and_then(Text::unescape) {
                        self.fields.text(out, &text);
                    }
                }
                Metadata::Key => {
                    if let Payload::Base64(text) = record.key {
                        let key = match decode(text, &mut self.text) {
                            Err(Bad::NotUtf8) | Ok(_) => String::from_utf8_lossy(&self.text),
                            Err(_) => Cow::Borrowed(""),
                        };
                        self.fields.text(out, &key);
                    }
                }
                Metadata::Headers => {
                    if let Some(headers) = record.headers {
                        self.fields.text(out, &headers_as_text(headers));
                    }
                }
                Metadata::KeySchemaId => self.schema_id(out, record.key_schema),
                Metadata::ValueSchemaId => self.schema_id(out, record.value_schema),
            }
        }
    }

    fn schema_id(&self, out: &mut Vec<u8>, metadata: Option<&str>) {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Schema {
            schema_id: serde_json::Value,
        }
        match metadata
            .and_then(|json| serde_json::from_str::<Schema>(json).ok())
            .map(|schema| schema.schema_id)
        {
            None | Some(serde_json::Value::Null) => {}
            Some(serde_json::Value::String(id)) => self.fields.text(out, &id),
            Some(id) => self.fields.text(out, &id.to_string()),
        }
    }
}

fn digits(out: &mut Vec<u8>, number: u64) {
    // Writing to a vector does not fail.
    let _ = write!(out, "{number}");
}

/// Headers as JSON with text in the place of bytes. Lambda sends Java's bytes, which are signed; others send
/// them unsigned. What is no byte at all is left out.
fn headers_as_text(headers: &str) -> String {
    let Ok(serde_json::Value::Array(list)) = serde_json::from_str(headers) else { return String::new() };
    let mut text = String::from("[");
    for (name, value) in list.iter().filter_map(|header| header.as_object()).flatten() {
        let bytes: Vec<u8> = value
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|byte| byte.as_i64().and_then(byte_of))
            .collect();
        let value =
            if value.is_null() { serde_json::Value::Null } else { String::from_utf8_lossy(&bytes).into() };
        text.push_str(if text.len() > 1 { "," } else { "" });
        // Writing to a string does not fail.
        let _ = write!(text, "{{{}:{value}}}", serde_json::Value::from(name.as_str()));
    }
    text.push(']');
    text
}

fn byte_of(number: i64) -> Option<u8> {
    u8::try_from(number).ok().or_else(|| i8::try_from(number).ok().map(i8::cast_unsigned))
}
