//! The on-failure destination (`DestinationConfig.OnFailure`): keeps the batches that the mapping gave up.

use std::fs::File;
use std::io::{self, Write as _};

use crate::invocation_record::InvocationRecord;

mod bucket;
mod topic;

pub use bucket::Bucket;
pub use topic::Topic;

/// A place that keeps invocation records.
pub trait Destination {
    /// Whether each record has an invocation record of its own. Otherwise a batch has one.
    fn is_by_record(&self) -> bool {
        false
    }

    /// Stores the record durably before it returns: the batch is committed afterwards.
    fn keep(&mut self, record: &InvocationRecord) -> impl Future<Output = io::Result<()>>;
}

/// The dead letters: a JSON Lines file, an S3 bucket or a Kafka topic.
pub enum DeadLetters {
    /// A file with one JSON line for each invocation record.
    File(File),
    /// A bucket with one object for each invocation record.
    S3(Bucket),
    /// A topic with one message for each record.
    Topic(Topic),
}

impl Destination for DeadLetters {
    fn is_by_record(&self) -> bool {
        matches!(self, Self::Topic(_))
    }

    async fn keep(&mut self, record: &InvocationRecord) -> io::Result<()> {
        match self {
            Self::File(file) => {
                let mut line = serde_json::to_vec(record)?;
                line.push(b'\n');
                file.write_all(&line)?;
                file.sync_data()
            }
            Self::S3(bucket) => bucket.put(record).await,
            Self::Topic(topic) => topic.put(record).await,
        }
    }
}

#[cfg(test)]
mod tests;
