//! Reads and commits the partitions of a topic through librdkafka, the most widely used Kafka client outside Java.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{CommitMode, Consumer as _, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, Timestamp, TopicPartitionList};
use tokio::time::{Instant, timeout_at};

use crate::event::{Decoded, Origin, Record, TimestampType};

/// The largest event. Lambda's quota for the payload of a synchronous invocation is 6 MB.
pub const EVENT_BYTES: usize = 6_000_000;
/// An upper bound on an event's bytes without its records.
const ENVELOPE_BYTES: usize = 4_096;
const BROKER_TIMEOUT: Duration = Duration::from_secs(30);

/// The limits at which a batch is complete.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// `BatchSize`: the number of records.
    pub records: usize,
    /// The size of the event in bytes.
    pub bytes: usize,
    /// `MaximumBatchingWindowInSeconds`: the time since the batch's first record.
    pub window: Duration,
}

/// Where a consumer group starts if it has not committed an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the oldest record.
    TrimHorizon,
    /// At the next record to be produced.
    Latest,
}

/// All partitions of a topic, read for a consumer group.
pub struct Source {
    consumer: StreamConsumer,
    topic: String,
    limits: Limits,
    /// A record that was read but did not fit into the last batch.
    left: Option<Record>,
}

/// A batch, and the records that do not fit into any event.
#[derive(Debug, Default)]
pub struct Batch {
    /// The records of the batch, in order within each partition.
    pub records: Vec<Record>,
    /// Records that are larger than an event may be.
    pub too_large: Vec<Record>,
}

impl Source {
    /// Finds the topic's partitions and starts at the offsets that the group has committed.
    pub fn open(origin: &Origin, group: &str, start: Start, limits: Limits) -> Result<Self, KafkaError> {
        let reset = if start == Start::Latest { "latest" } else { "earliest" };
        let consumer: StreamConsumer = ClientConfig::new()
            .set("bootstrap.servers", &origin.bootstrap_servers)
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", reset)
            // A broker on the same machine answers at once, so the default wait of half a second would only add delay.
            .set("fetch.wait.max.ms", "20")
            .create()?;

        let metadata = consumer.fetch_metadata(Some(&origin.topic), BROKER_TIMEOUT)?;
        let mut partitions = TopicPartitionList::new();
        for partition in metadata.topics().iter().flat_map(rdkafka::metadata::MetadataTopic::partitions) {
            partitions.add_partition(&origin.topic, partition.id());
        }
        if partitions.count() == 0 {
            return Err(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition));
        }

        let mut begin = consumer.committed_offsets(partitions, BROKER_TIMEOUT)?;
        let first = if start == Start::Latest { Offset::End } else { Offset::Beginning };
        let uncommitted = begin.to_topic_map().into_iter().filter(|(_, at)| *at == Offset::Invalid);
        for ((topic, partition), _) in uncommitted {
            begin.set_partition_offset(&topic, partition, first)?;
        }

        // Partitions are assigned, not subscribed: there is one poller, and joining a group takes seconds.
        consumer.assign(&begin)?;
        Ok(Self { consumer, topic: origin.topic.clone(), limits, left: None })
    }

    /// Returns the next batch. Waits for the first record without a limit, then until the batch is full or its window ends.
    pub async fn batch(&mut self) -> Result<Batch, KafkaError> {
        let mut batch = Batch::default();
        let mut bytes = ENVELOPE_BYTES;
        let mut end = None;
        while batch.records.len() < self.limits.records {
            let record = match (self.left.take(), end) {
                (Some(record), _) => record,
                (None, None) => self.record().await?,
                (None, Some(end)) => match timeout_at(end, self.record()).await {
                    Ok(record) => record?,
                    Err(_) => break,
                },
            };

            end.get_or_insert_with(|| Instant::now() + self.limits.window);
            let more = record.event_bytes(&self.topic);
            if !self.fits(&record) {
                batch.too_large.push(record);
            } else if bytes + more > self.limits.bytes {
                self.left = Some(record);
                break;
            } else {
                bytes += more;
                batch.records.push(record);
            }
        }
        Ok(batch)
    }

    /// Whether a record fits into an event.
    pub fn fits(&self, record: &Record) -> bool {
        ENVELOPE_BYTES + record.event_bytes(&self.topic) <= self.limits.bytes
    }

    /// Divides the records of a batch so that each part fits into an event. Without a schema registry it is one part: only
    /// decoding makes a record larger than it was when the batch was gathered.
    pub fn events(&self, records: Vec<Record>) -> Vec<Vec<Record>> {
        divide(records, &self.topic, self.limits.bytes)
    }

    /// Returns the next record. Waits while the broker is unreachable: the client reconnects by itself.
    async fn record(&self) -> Result<Record, KafkaError> {
        loop {
            match self.consumer.recv().await {
                Ok(message) => return Ok(record(&message)),
                Err(KafkaError::MessageConsumption(code)) => {
                    tracing::warn!(%code, "a record could not be read; reading again");
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Commits offsets by partition. Each is the offset of the next record to read.
    pub fn commit(&self, next: &BTreeMap<i32, i64>) -> Result<(), KafkaError> {
        let mut offsets = TopicPartitionList::new();
        for (partition, offset) in next {
            offsets.add_partition_offset(&self.topic, *partition, Offset::Offset(*offset))?;
        }
        self.consumer.commit(&offsets, CommitMode::Sync)
    }
}

impl Batch {
    /// The offset after the batch's last record, by partition.
    pub fn next(&self) -> BTreeMap<i32, i64> {
        let mut next = BTreeMap::new();
        for record in self.records.iter().chain(&self.too_large) {
            let offset = next.entry(record.partition).or_insert(0);
            *offset = (*offset).max(record.offset + 1);
        }
        next
    }
}

/// The offset that the group has committed for each partition; 0 for a partition without a committed offset.
pub fn committed(origin: &Origin, group: &str, partitions: i32) -> Result<BTreeMap<i32, i64>, KafkaError> {
    let consumer: StreamConsumer = ClientConfig::new()
        .set("bootstrap.servers", &origin.bootstrap_servers)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .create()?;

    let mut list = TopicPartitionList::new();
    list.add_partition_range(&origin.topic, 0, partitions - 1);
    let offsets = consumer.committed_offsets(list, BROKER_TIMEOUT)?;
    let offset = |at: Offset| if let Offset::Offset(offset) = at { offset } else { 0 };
    Ok(offsets.to_topic_map().into_iter().map(|((_, partition), at)| (partition, offset(at))).collect())
}

fn record(message: &BorrowedMessage<'_>) -> Record {
    let timestamp = match message.timestamp() {
        Timestamp::NotAvailable => (-1, TimestampType::NoTimestampType),
        Timestamp::CreateTime(time) => (time, TimestampType::CreateTime),
        Timestamp::LogAppendTime(time) => (time, TimestampType::LogAppendTime),
    };

    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    Record {
        partition: message.partition(),
        offset: message.offset(),
        timestamp,
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect(),
        decoded: Decoded::default(),
    }
}

/// Divides records into as few parts, in their order, as an event of `limit` bytes allows.
fn divide(records: Vec<Record>, topic: &str, limit: usize) -> Vec<Vec<Record>> {
    let mut events: Vec<Vec<Record>> = Vec::new();
    let mut bytes = ENVELOPE_BYTES;

    for record in records {
        let more = record.event_bytes(topic);
        if let Some(event) = events.last_mut()
            && bytes + more <= limit
        {
            event.push(record);
        } else {
            bytes = ENVELOPE_BYTES;
            events.push(vec![record]);
        }
        bytes += more;
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Part, SchemaMetadata};

    #[test]
    fn records_that_decoding_made_large_are_divided_in_their_order() {
        let schema = SchemaMetadata { data_format: "AVRO", schema_id: "1".to_owned() };
        let record = |offset: i64| Record {
            partition: 0,
            offset,
            timestamp: (5, TimestampType::CreateTime),
            key: None,
            value: Some(vec![0; 6]),
            headers: vec![],
            decoded: Decoded {
                key: None,
                value: Some(Part { json: vec![b'1'; 3_000], schema: schema.clone() }),
            },
        };
        let limit = ENVELOPE_BYTES + 2 * record(0).event_bytes("t");

        let events = divide((0..5).map(record).collect(), "t", limit);
        let offsets = |event: &Vec<Record>| event.iter().map(|record| record.offset).collect::<Vec<_>>();
        assert_eq!(events.iter().map(offsets).collect::<Vec<_>>(), [vec![0, 1], vec![2, 3], vec![4]]);
        assert!(divide(Vec::new(), "t", limit).is_empty(), "without records there is no invocation");

        let origin = Origin::new("t", "b");
        assert!(events.iter().all(|event| origin.event(event).unwrap().len() <= limit));
    }
}
