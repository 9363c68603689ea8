use futures_util::StreamExt as _;
use futures_util::stream;
use postern_runtime::metrics;
use serde::Serialize;

use crate::convert::{Converter, Part};
use crate::event;
use crate::object::Object;
use crate::settings::Settings;
use crate::store::{Error, Put, Store};

/// Objects written at once.
const AT_ONCE: usize = 16;
/// Bad records that one invocation names in its log; the rest are counted.
const BAD_LINES: usize = 100;

/// A partial batch response: the records that are to be sent again, or to the on-failure destination. Without any,
/// the batch is done.
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
    /// Which. An object, where Kinesis and SQS have a string.
    pub item_identifier: ItemIdentifier,
}

/// A record's place in its topic.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct ItemIdentifier {
    /// `topic-partition`, as the event names it.
    pub partition: String,
    /// The record's offset.
    pub offset: u64,
}

/// Writes a batch: first all rows are made, then all objects are written, several at a time. The answer names the
/// bad records; an error means that at least one object is not written, and the whole batch has to come again.
pub async fn write_batch(store: &impl Store, settings: &Settings, batch: &[u8]) -> Result<Answer, Error> {
    let mut converter = Converter::new(settings);
    event::read(batch, &mut converter).inspect_err(|_| metrics::count("InvalidEvents"))?;
    let parts = converter.parts();
    let answer = Answer { batch_item_failures: parts.iter().flat_map(bad_records).collect() };
    report(&parts);

    let mut objects = Vec::new();
    for Part { partition, runs, .. } in parts {
        for run in runs {
            objects.extend(Object::of(settings, &partition, run)?);
        }
    }
    let puts = stream::iter(objects).map(|object| store.put(object)).buffer_unordered(AT_ONCE);
    // All are waited for, the first error notwithstanding: what can be written now is done for the next attempt.
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
    tracing::info!(written, existed, bad = answer.batch_item_failures.len(), "batch done");
    Ok(answer)
}

fn bad_records(part: &Part) -> impl Iterator<Item = BatchItemFailure> {
    part.bad.iter().map(|(offset, _)| BatchItemFailure {
        item_identifier: ItemIdentifier { partition: part.partition.name.clone(), offset: *offset },
    })
}

/// Logs and counts what is in the batch: numbers and reasons, nothing of a record.
fn report(parts: &[Part]) {
    let bad = parts
        .iter()
        .flat_map(|part| part.bad.iter().map(|(offset, bad)| (&part.partition.name, offset, bad)));
    for (partition, offset, reason) in bad.take(BAD_LINES) {
        tracing::warn!(partition, offset, reason = %reason, "bad record");
    }
    for Part { partition, runs, records, tombstones, bad } in parts {
        let (first, last) = (runs.first().map(|run| run.first), runs.last().map(|run| run.last));
        let (partition, bad) = (&partition.name, bad.len());
        tracing::info!(partition, records, tombstones, bad, first, last, "records of a partition");
    }
    let sum = |count: fn(&Part) -> usize| parts.iter().map(count).sum();
    metrics::add("Records", sum(|part| part.records));
    metrics::add("Tombstones", sum(|part| part.tombstones));
    metrics::add("BadRecords", sum(|part| part.bad.len()));
}
