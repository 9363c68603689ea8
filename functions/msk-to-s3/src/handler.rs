//! The handler: converts a batch and writes its objects.

use futures_util::StreamExt as _;
use futures_util::stream;
use postern_runtime::metrics;
use serde::Serialize;

use crate::config::Config;
use crate::convert::{Converter, PartitionBatch};
use crate::event;
use crate::object::Object;
use crate::store::{Error, Put, Store};

/// The number of objects that are written at the same time.
const CONCURRENT_WRITES: usize = 16;
/// The number of bad records that one invocation logs; further ones are only counted.
const LOGGED_BAD_RECORDS: usize = 100;

/// A partial batch response. It names the records that Lambda sends again and finally gives to the on-failure
/// destination. An empty list means that the whole batch was processed.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// The records that were not written.
    pub batch_item_failures: Vec<BatchItemFailure>,
}

/// One record that was not written.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchItemFailure {
    /// The record. Kafka's identifier is an object, where Kinesis and SQS have a string.
    pub item_identifier: ItemIdentifier,
}

/// The position of a record in its topic.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct ItemIdentifier {
    /// `topic-partition`, as the event names it.
    pub partition: String,
    /// The record's offset.
    pub offset: u64,
}

/// Converts a batch to rows, then writes its objects, several at the same time.
///
/// The answer names the bad records. An error means that at least one object was not written, so that Lambda has to send
/// the whole batch again.
pub async fn write_batch(store: &impl Store, config: &Config, batch: &[u8]) -> Result<Answer, Error> {
    let mut converter = Converter::new(config);
    event::read(batch, &mut converter).inspect_err(|_| metrics::count("InvalidEvents"))?;
    let partitions = converter.finish();

    let answer = Answer { batch_item_failures: partitions.iter().flat_map(bad_records).collect() };
    report(&partitions);

    let mut objects = Vec::new();
    for PartitionBatch { partition, runs, .. } in partitions {
        for run in runs {
            objects.extend(Object::of(config, &partition, run)?);
        }
    }

    // Wait for every write, even after an error: objects that are written now are already there on the next attempt.
    let puts = stream::iter(objects).map(|object| store.put(object)).buffer_unordered(CONCURRENT_WRITES);
    let outcomes: Vec<_> = puts.collect().await;

    let (mut written, mut existed) = (0, 0);
    for outcome in outcomes {
        match outcome? {
            Put::Written => written += 1,
            Put::Existed => existed += 1,
        }
    }

    metrics::add("ObjectsWritten", written);
    metrics::add("ObjectsWrittenBefore", existed);
    tracing::info!(written, existed, bad = answer.batch_item_failures.len(), "batch written");
    Ok(answer)
}

fn bad_records(batch: &PartitionBatch) -> impl Iterator<Item = BatchItemFailure> {
    batch.bad.iter().map(|(offset, _)| BatchItemFailure {
        item_identifier: ItemIdentifier { partition: batch.partition.name.clone(), offset: *offset },
    })
}

/// Logs and counts the records of the batch. The log has numbers and reasons, never a record's content.
fn report(partitions: &[PartitionBatch]) {
    let bad = partitions
        .iter()
        .flat_map(|batch| batch.bad.iter().map(|(offset, bad)| (&batch.partition.name, offset, bad)));
    for (partition, offset, reason) in bad.take(LOGGED_BAD_RECORDS) {
        tracing::warn!(partition, offset, reason = %reason, "bad record");
    }

    for PartitionBatch { partition, runs, records, tombstones, bad } in partitions {
        let first = runs.iter().map(|run| run.first).min();
        let last = runs.iter().map(|run| run.last).max();
        let (partition, bad) = (&partition.name, bad.len());
        tracing::info!(partition, records, tombstones, bad, first, last, "records of a partition");
    }

    let sum = |count: fn(&PartitionBatch) -> usize| partitions.iter().map(count).sum();
    metrics::add("Records", sum(|batch| batch.records));
    metrics::add("Tombstones", sum(|batch| batch.tombstones));
    metrics::add("BadRecords", sum(|batch| batch.bad.len()));
}
