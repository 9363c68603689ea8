//! The on-failure destination (`DestinationConfig.OnFailure`): keeps the batches that the mapping gave up.
//!
//! A batch is kept as the invocation record that Lambda documents for an S3 destination, without the request id: not every
//! endpoint that the poller invokes returns one.

use std::fs::File;
use std::io::{self, Write as _};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::event::{Origin, Record};

/// The pause before an invocation record is sent to S3 again, after the client's own attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// Why records were given up, in Lambda's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Condition {
    /// The batch failed more often than `MaximumRetryAttempts` allows.
    RetryAttemptsExhausted,
    /// The records are older than `MaximumRecordAgeInSeconds`.
    RecordAgeExceeded,
    /// A single record is larger than an event may be.
    MaximumPayloadSizeExceeded,
}

/// The invocations of a batch before it was given up.
#[derive(Debug, Clone, Copy, Default)]
pub struct History {
    /// The number of invocations that contained these records, alone or with others.
    pub invocations: u32,
    /// Whether the last invocation ended in a function error.
    pub failed: bool,
}

/// The record of a batch that was given up.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InvocationRecord {
    request_context: Value,
    response_context: Value,
    version: &'static str,
    timestamp: String,
    #[serde(rename = "KafkaBatchInfo")]
    batch: Value,
    /// The event that was not processed, as JSON text.
    pub payload: String,
    #[serde(skip)]
    place: Place,
}

/// The parts of an object's key that depend on the record.
#[derive(Debug, Clone, PartialEq)]
struct Place {
    topic: String,
    time: Timestamp,
}

impl InvocationRecord {
    /// The invocation record of `records`.
    pub fn new(
        origin: &Origin,
        function: &str,
        records: &[Record],
        condition: Condition,
        history: History,
    ) -> serde_json::Result<Self> {
        let payload = origin.event(records)?;

        let mut partitions = Map::new();
        for record in records {
            let (offset, time) = (record.offset.to_string(), iso(record.timestamp.0));
            let info = partitions
                .entry(origin.name(record.partition))
                .or_insert_with(|| json!({"firstRecordOffset": offset, "firstRecordTimestamp": time}));
            info["lastRecordOffset"] = offset.into();
            info["lastRecordTimestamp"] = time.into();
        }

        let response = match history {
            History { invocations: 0, .. } => Value::Null,
            History { failed: true, .. } => {
                json!({"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"})
            }
            History { .. } => json!({"statusCode": 200, "executedVersion": "$LATEST"}),
        };

        let mut batch = json!({"batchSize": records.len(), "bootstrapServers": origin.bootstrap_servers,
            "payloadSize": payload.len(), "recordsInfo": partitions});
        if let Some(arn) = &origin.arn {
            batch["eventSourceArn"] = arn.as_str().into();
        }

        let now = Timestamp::now();
        Ok(Self {
            request_context: json!({"functionArn": function, "condition": condition,
                "approximateInvokeCount": history.invocations}),
            response_context: response,
            version: "1.0",
            timestamp: iso(now.as_millisecond()),
            batch,
            payload: String::from_utf8(payload).unwrap_or_default(),
            place: Place { topic: origin.topic.clone(), time: now },
        })
    }
}

/// A Kafka timestamp in Lambda's format; empty for -1, which Kafka uses for a record without a timestamp.
fn iso(milliseconds: i64) -> String {
    let time = Timestamp::from_millisecond(milliseconds).ok().filter(|_| milliseconds >= 0);
    time.map_or_else(String::new, |time| time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
}

/// A place that keeps invocation records.
pub trait Destination {
    /// Stores the record durably before it returns: the batch is committed afterwards.
    fn keep(&mut self, record: &InvocationRecord) -> impl Future<Output = io::Result<()>>;
}

/// The dead letters: a JSON Lines file or an S3 bucket.
#[derive(Debug)]
pub enum DeadLetters {
    /// A file with one JSON line for each invocation record.
    File(File),
    /// A bucket with one object for each invocation record.
    S3(Bucket),
}

/// A bucket, and the prefix of the keys in it.
#[derive(Debug)]
pub struct Bucket {
    s3: Client,
    name: String,
    prefix: String,
    mapping: String,
}

impl Bucket {
    /// Opens `s3://bucket[/prefix]` for the dead letters of the mapping with this UUID. Fails if the bucket does not exist:
    /// otherwise the error would appear only with the first dead letter.
    pub async fn open(s3: Client, url: &str, mapping: &str) -> io::Result<Self> {
        let path = url.strip_prefix("s3://").filter(|path| !path.is_empty());
        let path =
            path.ok_or_else(|| io::Error::other(format!("{url} is not s3://bucket or s3://bucket/prefix")))?;
        let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
        let prefix = prefix.trim_end_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };

        s3.head_bucket().bucket(bucket).send().await.map_err(|error| {
            io::Error::other(format!("bucket {bucket}: {}", postern_runtime::aws::failure(&error).1))
        })?;
        Ok(Self { s3, name: bucket.to_owned(), prefix, mapping: mapping.to_owned() })
    }

    /// The key that AWS documents for streams, with the topic in the place of the shard.
    fn key(&self, Place { topic, time }: &Place) -> String {
        let (day, second) = (time.strftime("%Y/%m/%d"), time.strftime("%Y-%m-%dT%H.%M.%S"));
        format!("{}aws/lambda/{}/{topic}/{day}/{second}-{}", self.prefix, self.mapping, random_uuid())
    }

    /// Retries until S3 has stored the invocation record: the batch must not be committed before.
    async fn put(&self, record: &InvocationRecord) -> io::Result<()> {
        let body = serde_json::to_vec(record)?;
        let key = self.key(&record.place);
        loop {
            let put = self.s3.put_object().bucket(&self.name).key(&key).content_type("application/json");
            match put.body(ByteStream::from(body.clone())).send().await {
                Ok(_) => return Ok(()),
                Err(error) => {
                    let (_, reason) = postern_runtime::aws::failure(&error);
                    tracing::warn!(
                        bucket = self.name,
                        reason,
                        "an invocation record could not be written; writing it again"
                    );
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// A UUID of version 4: six bits state the version and variant, the others are random.
fn random_uuid() -> String {
    let bits = fastrand::u128(..) & !(0xf << 76 | 0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

impl Destination for DeadLetters {
    async fn keep(&mut self, record: &InvocationRecord) -> io::Result<()> {
        match self {
            Self::File(file) => {
                let mut line = serde_json::to_vec(record)?;
                line.push(b'\n');
                file.write_all(&line)?;
                file.sync_data()
            }
            Self::S3(bucket) => bucket.put(record).await,
        }
    }
}

#[cfg(test)]
mod tests;
