//! Reads the event of a Kafka event source mapping, for Amazon MSK or a self-managed cluster. The event is read once,
//! from beginning to end, and each record is passed to a [`Records`] implementation as soon as it has been read.
//!
//! Why not the types of `aws_lambda_events`: real events differ from the documented ones. Keys, values, headers and
//! timestamps may be null or absent, header bytes may be signed or unsigned, and the order of partitions matters.

use crate::json::{InvalidJson, Kind, Reader, Text};

/// Why an invocation's payload is not an event of a Kafka event source mapping.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEvent {
    /// The payload is not JSON, or a part of it is not of the expected kind.
    #[error("{0}")]
    Shape(String),
    /// `eventSource` is missing or names another service.
    #[error("eventSource must be aws:kafka or SelfManagedKafka, but is missing or something else")]
    Source,
    /// The event has no object `records`.
    #[error("the event has no object named records")]
    Records,
    /// A key of `records` is not `topic-partition`.
    #[error(
        "a key of records must be a valid topic name and a partition number joined by a dash, such as customer-0"
    )]
    Partition,
    /// A record's own topic or partition differs from the key it is listed under.
    #[error("a record under {0} names another topic or partition")]
    Elsewhere(String),
    /// A record has no valid offset, so it cannot be identified.
    #[error("a record under {0} has no offset, or one that is not between 0 and 9223372036854775807")]
    Offset(String),
}

impl From<InvalidJson> for InvalidEvent {
    fn from(error: InvalidJson) -> Self {
        Self::Shape(error.to_string())
    }
}

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Partition {
    /// The key in the event, `topic-partition`, which a partial batch response repeats.
    pub(crate) name: String,
    pub(crate) topic: String,
    pub(crate) number: u32,
}

impl Partition {
    /// Parses `topic-partition`. A topic may contain dashes: the number follows the last one.
    fn parse(name: &str) -> Option<Self> {
        /// Kafka's limit on the length of a topic's name.
        const MAX_TOPIC_BYTES: usize = 249;

        let (topic, number) = name.rsplit_once('-')?;
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let named = !topic.is_empty() && topic.len() <= MAX_TOPIC_BYTES && topic != "." && topic != "..";

        let number = number.parse().ok().filter(|number| i32::try_from(*number).is_ok())?;
        (named && topic.bytes().all(legal)).then(|| Self { name: name.into(), topic: topic.into(), number })
    }
}

/// A record's key or value.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Payload<'e> {
    /// Null or absent.
    Null,
    /// A string, which should be base64.
    Base64(Text<'e>),
    /// A value that is not a string.
    NotAString,
}

/// One record, whose parts are not decoded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'e> {
    pub(crate) offset: u64,
    /// Milliseconds since 1970; `None` for Kafka's -1, which means that the record has no timestamp.
    pub(crate) timestamp: Option<u64>,
    pub(crate) timestamp_type: Option<Text<'e>>,
    pub(crate) key: Payload<'e>,
    pub(crate) value: Payload<'e>,
    /// The JSON of the headers, unchecked.
    pub(crate) headers: Option<&'e str>,
    /// The JSON of `keySchemaMetadata`, which Lambda adds if a schema registry is configured.
    pub(crate) key_schema: Option<&'e str>,
    /// The JSON of `valueSchemaMetadata`.
    pub(crate) value_schema: Option<&'e str>,
}

/// Receives the records of an event while it is read.
pub(crate) trait Records {
    /// The records that follow belong to this partition.
    fn partition(&mut self, partition: Partition);
    /// The next record of the partition.
    fn record(&mut self, record: &Record<'_>);
}

/// Reads an event. If this returns an error, discard the records that were passed on before.
pub(crate) fn read(event: &[u8], records: &mut impl Records) -> Result<(), InvalidEvent> {
    let event = simdutf8::basic::from_utf8(event).map_err(|error| InvalidEvent::Shape(error.to_string()))?;
    let mut reader = Reader::new(event);
    let (mut from_kafka, mut has_records) = (false, false);

    reader.object()?;
    while let Some(key) = reader.key()? {
        match key.unescape().as_deref() {
            Some("eventSource") if reader.kind()? == Kind::String => {
                let source = reader.string()?.unescape();
                from_kafka = matches!(source.as_deref(), Some("aws:kafka" | "SelfManagedKafka"));
            }
            Some("records") if reader.kind()? == Kind::Object => {
                has_records = true;
                read_partitions(&mut reader, records)?;
            }
            _ => drop(reader.value()?),
        }
    }
    reader.end()?;

    match (from_kafka, has_records) {
        (false, _) => Err(InvalidEvent::Source),
        (true, false) => Err(InvalidEvent::Records),
        (true, true) => Ok(()),
    }
}

fn read_partitions(reader: &mut Reader<'_>, records: &mut impl Records) -> Result<(), InvalidEvent> {
    reader.object()?;
    while let Some(name) = reader.key()? {
        let name = name.unescape().ok_or(InvalidEvent::Partition)?;
        let partition = Partition::parse(&name).ok_or(InvalidEvent::Partition)?;
        let head = usual_head(&partition);
        records.partition(partition.clone());

        reader.array()?;
        while reader.element()? {
            let record = match reader.attempt(|reader| read_usual(reader, &head)) {
                Some(record) => record,
                None => read_record(reader, &partition)?,
            };
            records.record(&record);
        }
    }
    Ok(())
}

/// Reads a record as Lambda is known to write it: the same members in the same order, without white space. `head` is what
/// comes before the offset. Returns `None` for every other record.
///
/// The texts between the values are the same in all records of a partition, so one comparison takes the place of reading
/// several members.
fn read_usual<'e>(reader: &mut Reader<'e>, head: &str) -> Option<Record<'e>> {
    let after = |reader: &mut Reader<'e>, text: &str| reader.skip(text).then_some(());
    after(reader, head)?;
    let offset = reader.unsigned().ok().flatten().filter(|offset| is_offset(*offset))?;
    after(reader, ",\"timestamp\":")?;
    let timestamp = reader.unsigned().ok()?;

    after(reader, ",\"timestampType\":")?;
    let timestamp_type = Some(reader.string().ok()?);
    let key = if reader.skip(",\"key\":") { payload(reader).ok()? } else { Payload::Null };
    let value = if reader.skip(",\"value\":") { payload(reader).ok()? } else { Payload::Null };
    after(reader, ",\"headers\":[]}")?;

    let (headers, key_schema, value_schema) = (Some("[]"), None, None);
    Some(Record { offset, timestamp, timestamp_type, key, value, headers, key_schema, value_schema })
}

/// What Lambda writes in a record before its offset.
fn usual_head(partition: &Partition) -> String {
    format!("{{\"topic\":\"{}\",\"partition\":{},\"offset\":", partition.topic, partition.number)
}

/// Reads any record.
fn read_record<'e>(reader: &mut Reader<'e>, partition: &Partition) -> Result<Record<'e>, InvalidEvent> {
    let mut record = Record {
        offset: 0,
        timestamp: None,
        timestamp_type: None,
        key: Payload::Null,
        value: Payload::Null,
        headers: None,
        key_schema: None,
        value_schema: None,
    };
    let (mut offset, mut elsewhere) = (None, false);

    reader.object()?;
    while let Some(key) = reader.key()? {
        match key.unescape().as_deref() {
            Some("topic") => {
                let topic = text(reader)?;
                elsewhere |= topic.is_some_and(|topic| topic.unescape().as_deref() != Some(&partition.topic));
            }
            Some("partition") => {
                elsewhere |= reader.unsigned()?.is_some_and(|number| number != u64::from(partition.number));
            }
            Some("offset") => offset = reader.unsigned()?,
            Some("timestamp") => record.timestamp = reader.unsigned()?,
            Some("timestampType") => record.timestamp_type = text(reader)?,
            Some("key") => record.key = payload(reader)?,
            Some("value") => record.value = payload(reader)?,
            Some("headers") => record.headers = present(reader)?,
            Some("keySchemaMetadata") => record.key_schema = present(reader)?,
            Some("valueSchemaMetadata") => record.value_schema = present(reader)?,
            _ => drop(reader.value()?),
        }
    }

    if elsewhere {
        return Err(InvalidEvent::Elsewhere(partition.name.clone()));
    }
    record.offset = offset
        .filter(|offset| is_offset(*offset))
        .ok_or_else(|| InvalidEvent::Offset(partition.name.clone()))?;
    Ok(record)
}

/// Kafka's offsets are signed 64-bit numbers that are never negative.
fn is_offset(number: u64) -> bool {
    i64::try_from(number).is_ok()
}

fn payload<'e>(reader: &mut Reader<'e>) -> Result<Payload<'e>, InvalidJson> {
    if let Some(text) = reader.base64() {
        return Ok(Payload::Base64(text));
    }
    Ok(match reader.kind()? {
        Kind::String => Payload::Base64(reader.string()?),
        Kind::Null => {
            reader.value()?;
            Payload::Null
        }
        _ => {
            reader.value()?;
            Payload::NotAString
        }
    })
}

fn text<'e>(reader: &mut Reader<'e>) -> Result<Option<Text<'e>>, InvalidJson> {
    if reader.kind()? == Kind::String {
        return reader.string().map(Some);
    }
    reader.value().map(|_| None)
}

fn present<'e>(reader: &mut Reader<'e>) -> Result<Option<&'e str>, InvalidJson> {
    Ok(Some(reader.value()?).filter(|json| *json != "null"))
}

#[cfg(test)]
mod tests;
