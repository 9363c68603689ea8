//! The topic's partitions, read and committed through librdkafka: the client that most of the world's Kafka traffic
//! outside Java goes through, so that what runs here runs against Amazon MSK as well.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{CommitMode, Consumer as _, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, Timestamp, TopicPartitionList};
use tokio::time::{Instant, timeout_at};

use crate::event::{Origin, Record, TimestampType};

/// The most bytes of an event ("Lambda quotas": 6 MB for a synchronous invocation).
pub const EVENT_BYTES: usize = 6_000_000;
/// What an event holds beside its records, at most.
const ENVELOPE_BYTES: usize = 4_096;
const BROKER_TIMEOUT: Duration = Duration::from_secs(30);

/// When a batch is full.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// `BatchSize`: records.
    pub records: usize,
    /// Bytes of the event.
    pub bytes: usize,
    /// `MaximumBatchingWindowInSeconds`: since its first record.
    pub window: Duration,
}

/// Where a group begins that has committed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the oldest record.
    TrimHorizon,
    /// With the next record.
    Latest,
}

/// All partitions of a topic, in the name of a consumer group.
pub struct Source {
    consumer: StreamConsumer,
    topic: String,
    limits: Limits,
    /// Read, but not of the last batch any more.
    left: Option<Record>,
}

/// A batch, and records that fit into none.
#[derive(Debug, Default)]
pub struct Batch {
    /// In a partition's order.
    pub records: Vec<Record>,
    /// More than an event can hold.
    pub too_large: Vec<Record>,
}

impl Source {
    /// Finds the topic's partitions and begins where the group left off.
    pub fn open(origin: &Origin, group: &str, start: Start, limits: Limits) -> Result<Self, KafkaError> {
        let reset = if start == Start::Latest { "latest" } else { "earliest" };
        let consumer: StreamConsumer = ClientConfig::new()
            .set("bootstrap.servers", &origin.bootstrap_servers)
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", reset)
            // A broker of one machine answers at once; half a second's wait would be all there is to see.
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
        for (topic, partition) in
            begin.to_topic_map().into_iter().filter(|(_, at)| *at == Offset::Invalid).map(|(at, _)| at)
        {
            begin.set_partition_offset(&topic, partition, first)?;
        }
        // Assigned, not subscribed: there is one poller, and a group's join takes seconds.
        consumer.assign(&begin)?;
        Ok(Self { consumer, topic: origin.topic.clone(), limits, left: None })
    }

    /// The next batch: waits for a first record as long as it takes, then for the batch to be full or its window to end.
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
            if ENVELOPE_BYTES + more > self.limits.bytes {
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

    /// The next record; waits out a broker that is away, as the client reconnects on its own.
    async fn record(&self) -> Result<Record, KafkaError> {
        loop {
            match self.consumer.recv().await {
                Ok(message) => return Ok(record(&message)),
                Err(KafkaError::MessageConsumption(code)) => tracing::warn!(%code, "no record could be read"),
                Err(error) => return Err(error),
            }
        }
    }

    /// Tells the broker that everything up to these offsets is done; they are the next ones to read, by partition.
    pub fn commit(&self, next: &BTreeMap<i32, i64>) -> Result<(), KafkaError> {
        let mut offsets = TopicPartitionList::new();
        for (partition, offset) in next {
            offsets.add_partition_offset(&self.topic, *partition, Offset::Offset(*offset))?;
        }
        self.consumer.commit(&offsets, CommitMode::Sync)
    }
}

impl Batch {
    /// The offsets that follow the batch's, by partition.
    pub fn next(&self) -> BTreeMap<i32, i64> {
        let mut next = BTreeMap::new();
        for record in self.records.iter().chain(&self.too_large) {
            let offset = next.entry(record.partition).or_insert(0);
            *offset = (*offset).max(record.offset + 1);
        }
        next
    }
}

/// What is committed in the group's name, by partition: 0 where nothing is.
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
    }
}
