//! The event that a Kafka event source mapping sends, of Amazon MSK and of a self-managed cluster, read once and
//! in the order it stands in: each record is handed on while the event is being read.
//!
//! Our own type, because events in the field differ from the ones in the docs: keys, values, headers and
//! timestamps that are null or absent, header bytes that are signed or not, partitions whose order matters.

use crate::json::{Invalid, Kind, Members, Reader, Text};

/// What makes an event none of Kafka's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEvent {
    /// The event is not made as an event source mapping makes it.
    #[error("{0}")]
    Shape(String),
    /// Another service sent it, or nobody said who did.
    #[error("eventSource is neither aws:kafka nor SelfManagedKafka")]
    Source,
    /// There is nothing to read records from.
    #[error("there is no object named records")]
    Records,
    /// A key of `records` is not `topic-partition`.
    #[error("a key of records is no topic's legal name and a partition's number, joined by a dash")]
    Partition,
    /// A record says that it is of another partition than the one it is listed under.
    #[error("a record under {0} says it is of another topic or partition")]
    Elsewhere(String),
    /// A record without an offset cannot be told from another.
    #[error("a record under {0} has no offset, or none that Kafka gives")]
    Offset(String),
}

impl From<Invalid> for InvalidEvent {
    fn from(error: Invalid) -> Self {
        Self::Shape(error.to_string())
    }
}

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Partition {
    /// As the event names it, `topic-partition`: what a partial batch response has to say.
    pub(crate) name: String,
    pub(crate) topic: String,
    pub(crate) number: u32,
}

impl Partition {
    /// Topics may hold dashes: the number is what follows the last.
    fn parse(name: &str) -> Option<Self> {
        /// The longest name that Kafka gives a topic.
        const TOPIC_BYTES: usize = 249;
        let (topic, number) = name.rsplit_once('-')?;
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let named = !topic.is_empty() && topic.len() <= TOPIC_BYTES && topic != "." && topic != "..";
        let number = number.parse().ok().filter(|number| i32::try_from(*number).is_ok())?;
        (named && topic.bytes().all(legal)).then(|| Self { name: name.into(), topic: topic.into(), number })
    }
}

/// A record's key or value.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Payload<'e> {
    /// Null or absent.
    Null,
    /// What should be base64.
    Base64(Text<'e>),
    /// No string.
    Other,
}

/// One record; nothing in it is decoded yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'e> {
    pub(crate) offset: u64,
    /// Milliseconds since 1970; Kafka's -1 for "none" is none.
    pub(crate) timestamp: Option<u64>,
    pub(crate) timestamp_type: Option<Text<'e>>,
    pub(crate) key: Payload<'e>,
    pub(crate) value: Payload<'e>,
    /// The JSON of the headers, whatever it is.
    pub(crate) headers: Option<&'e str>,
    /// The JSON of what a schema registry says of the key.
    pub(crate) key_schema: Option<&'e str>,
    /// The JSON of what a schema registry says of the value.
    pub(crate) value_schema: Option<&'e str>,
}

/// Who wants the records.
pub(crate) trait Records {
    /// The records that follow are of this partition.
    fn partition(&mut self, partition: Partition);
    /// One record of it.
    fn record(&mut self, record: &Record<'_>);
}

/// Reads an event. An error may come after records: they are worth nothing then.
pub(crate) fn read(event: &[u8], records: &mut impl Records) -> Result<(), InvalidEvent> {
    let event = simdutf8::basic::from_utf8(event).map_err(|error| InvalidEvent::Shape(error.to_string()))?;
    let mut reader = Reader::new(event);
    let mut members = reader.object()?;
    let (mut from_kafka, mut has_records) = (false, false);
    while let Some(key) = reader.key(&mut members)? {
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
    let mut partitions = reader.object()?;
    while let Some(name) = reader.key(&mut partitions)? {
        let name = name.unescape().ok_or(InvalidEvent::Partition)?;
        let partition = Partition::parse(&name).ok_or(InvalidEvent::Partition)?;
        records.partition(partition.clone());
        let mut list = reader.array()?;
        while reader.element(&mut list)? {
            records.record(&read_record(reader, &partition)?);
        }
    }
    Ok(())
}

/// What a record says of itself. Lambda writes all records alike, in this order; absent members are left out.
const MEMBERS: [(&str, Member); 10] = [
    ("\"topic\":", Member::Topic),
    ("\"partition\":", Member::Partition),
    ("\"offset\":", Member::Offset),
    ("\"timestamp\":", Member::Timestamp),
    ("\"timestampType\":", Member::TimestampType),
    ("\"key\":", Member::Key),
    ("\"value\":", Member::Value),
    ("\"headers\":", Member::Headers),
    ("\"keySchemaMetadata\":", Member::KeySchema),
    ("\"valueSchemaMetadata\":", Member::ValueSchema),
];

#[derive(Debug, Clone, Copy)]
enum Member {
    Topic,
    Partition,
    Offset,
    Timestamp,
    TimestampType,
    Key,
    Value,
    Headers,
    KeySchema,
    ValueSchema,
    Other,
}

/// The record's next member. `expected` is its place in [`MEMBERS`] if the record is like the others: then nothing
/// has to be looked up.
fn member(
    reader: &mut Reader<'_>,
    members: &mut Members,
    expected: &mut usize,
) -> Result<Option<Member>, Invalid> {
    if let Some((token, member)) = MEMBERS.get(*expected)
        && reader.is_key(members, token)
    {
        *expected += 1;
        return Ok(Some(*member));
    }
    let Some(key) = reader.key(members)? else { return Ok(None) };
    let Some(key) = key.unescape() else { return Ok(Some(Member::Other)) };
    let is_key = |token: &str| token.trim_matches(['"', ':']) == key;
    Ok(Some(match MEMBERS.iter().position(|(token, _)| is_key(token)) {
        Some(at) => {
            *expected = at + 1;
            MEMBERS[at].1
        }
        None => Member::Other,
    }))
}

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
    let (mut members, mut expected) = (reader.object()?, 0);
    while let Some(member) = member(reader, &mut members, &mut expected)? {
        match member {
            Member::Topic => {
                let topic = text(reader)?;
                elsewhere |= topic.is_some_and(|topic| topic.unescape().as_deref() != Some(&partition.topic));
            }
            Member::Partition => {
                elsewhere |= reader.unsigned()?.is_some_and(|number| number != u64::from(partition.number));
            }
            Member::Offset => offset = reader.unsigned()?,
            Member::Timestamp => record.timestamp = reader.unsigned()?,
            Member::TimestampType => record.timestamp_type = text(reader)?,
            Member::Key => record.key = payload(reader)?,
            Member::Value => record.value = payload(reader)?,
            Member::Headers => record.headers = present(reader)?,
            Member::KeySchema => record.key_schema = present(reader)?,
            Member::ValueSchema => record.value_schema = present(reader)?,
            Member::Other => drop(reader.value()?),
        }
    }
    if elsewhere {
        return Err(InvalidEvent::Elsewhere(partition.name.clone()));
    }
    // Kafka's offsets are signed 64-bit numbers that are never negative.
    record.offset = offset
        .filter(|offset| i64::try_from(*offset).is_ok())
        .ok_or_else(|| InvalidEvent::Offset(partition.name.clone()))?;
    Ok(record)
}

fn payload<'e>(reader: &mut Reader<'e>) -> Result<Payload<'e>, Invalid> {
    Ok(match reader.kind()? {
        Kind::String => Payload::Base64(reader.string()?),
        Kind::Null => {
            reader.value()?;
            Payload::Null
        }
        _ => {
            reader.value()?;
            Payload::Other
        }
    })
}

fn text<'e>(reader: &mut Reader<'e>) -> Result<Option<Text<'e>>, Invalid> {
    if reader.kind()? == Kind::String {
        return reader.string().map(Some);
    }
    reader.value().map(|_| None)
}

fn present<'e>(reader: &mut Reader<'e>) -> Result<Option<&'e str>, Invalid> {
    Ok(Some(reader.value()?).filter(|json| *json != "null"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Notes `partition offset timestamp`, one a record.
    #[derive(Default)]
    struct Seen(Vec<String>, String);

    impl Records for Seen {
        fn partition(&mut self, partition: Partition) {
            self.1 = format!("{}/{}", partition.topic, partition.number);
        }

        fn record(&mut self, record: &Record<'_>) {
            self.0.push(format!("{} {} {:?}", self.1, record.offset, record.timestamp));
        }
    }

    fn seen(event: &str) -> Result<Vec<String>, InvalidEvent> {
        let mut seen = Seen::default();
        read(event.as_bytes(), &mut seen).map(|()| seen.0)
    }

    fn of_records(records: &str) -> Result<Vec<String>, InvalidEvent> {
        seen(&format!(r#"{{"eventSource":"aws:kafka","records":{records}}}"#))
    }

    #[test]
    fn partitions_and_records_in_the_order_of_the_event() {
        let records =
            r#"{"b-c-1":[{"offset":9,"timestamp":5},{"offset":3}],"a-0":[{"offset":4,"timestamp":-1}]}"#;
        assert_eq!(of_records(records).unwrap(), ["b-c/1 9 Some(5)", "b-c/1 3 None", "a/0 4 None"]);
        assert_eq!(of_records("{}").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn what_is_missing_null_or_odd_in_a_record_is_no_matter() {
        for record in [
            r#"{"offset":1}"#,
            r#"{"offset":1,"key":null,"value":null,"headers":null,"timestamp":null,"timestampType":null}"#,
            r#"{"offset":1,"key":7,"value":[],"headers":{"a":1},"timestamp":"x","timestampType":0}"#,
            r#"{"offset":1,"headers":[{"h":[-61,-85,200,300]},{"h":null},7]}"#,
            r#"{"offset":1,"topic":null,"partition":null,"later":{"x":[1,2]}}"#,
            r#"{"offset":1,"topic":"t","partition":0,"\u006bey":"aw=="}"#,
        ] {
            assert_eq!(of_records(&format!(r#"{{"t-0":[{record}]}}"#)).unwrap(), ["t/0 1 None"], "{record}");
        }
    }

    #[test]
    fn what_is_not_kafkas_is_refused() {
        for event in ["7", "[]", "{}", r#"{"records":{}}"#, r#"{"eventSource":"aws:sqs","records":{}}"#] {
            assert!(seen(event).is_err(), "{event}");
        }
        assert_eq!(seen(r#"{"eventSource":"aws:kafka"}"#), Err(InvalidEvent::Records));
        assert_eq!(seen(r#"{"eventSource":"SelfManagedKafka","records":[]}"#), Err(InvalidEvent::Records));
        for name in ["t", "t-", "-1", "t-x", "t--", "../x-0", "..-0", "t-99999999999", "t-4294967295", "é-0"]
        {
            assert_eq!(of_records(&format!(r#"{{"{name}":[]}}"#)), Err(InvalidEvent::Partition), "{name}");
        }
        for offset in ["-1", "null", "\"5\"", "1.5", "9223372036854775808"] {
            let records = format!(r#"{{"t-0":[{{"offset":{offset}}}]}}"#);
            assert_eq!(of_records(&records), Err(InvalidEvent::Offset("t-0".into())), "{offset}");
        }
        for record in [r#"{"offset":1,"topic":"u"}"#, r#"{"offset":1,"partition":1}"#] {
            let records = format!(r#"{{"t-0":[{record}]}}"#);
            assert_eq!(of_records(&records), Err(InvalidEvent::Elsewhere("t-0".into())), "{record}");
        }
        assert!(matches!(of_records(r#"{"t-0":{}}"#), Err(InvalidEvent::Shape(_))));
        assert!(matches!(of_records(r#"{"t-0":[7]}"#), Err(InvalidEvent::Shape(_))));
    }
}
