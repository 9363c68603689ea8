//! The invocation record: what a mapping keeps of a batch that it gave up, as Lambda documents it for S3 and Kafka
//! destinations. The request id is missing: not every endpoint that the poller invokes returns one.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::event::{Origin, Record};

/// Why records were given up, in Lambda's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Condition {
    /// The batch failed more often than `MaximumRetryAttempts` allows.
    RetryAttemptsExhausted,
    /// The records are older than `MaximumRecordAgeInSeconds`.
    RecordAgeExceeded,
    /// A single record is larger than an event may be.
    MaximumPayloadSizeExceeded,
    /// The schema registry does not have the schema that the record names.
    #[serde(rename = "SCHEMA_NOT_FOUND")]
    SchemaNotFound,
    /// The record's bytes are not what its schema describes, or name no schema.
    #[serde(rename = "DESERIALIZATION_ERROR")]
    DeserializationError,
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
    /// The topic of the records.
    #[serde(skip)]
    pub topic: String,
    /// When the batch was given up.
    #[serde(skip)]
    pub time: Timestamp,
    /// The key of the first record, as the producer wrote it.
    #[serde(skip)]
    pub key: Option<Vec<u8>>,
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
            topic: origin.topic.clone(),
            time: now,
            key: records.first().and_then(|record| record.key.clone()),
        })
    }

    /// The message for a Kafka destination, to which Lambda sends each record alone: the event is JSON in the message's
    /// JSON, and one record is described in the place of the partitions.
    pub fn topic_message(&self) -> serde_json::Result<Vec<u8>> {
        let mut message = serde_json::to_value(self)?;
        message["payload"] = serde_json::from_str(&self.payload)?;

        if let Some(batch) = message["KafkaBatchInfo"].as_object_mut()
            && let Some(Value::Object(partitions)) = batch.remove("recordsInfo")
            && let Some(info) = partitions.values().next()
        {
            let record =
                json!({"offset": info["firstRecordOffset"], "timestamp": info["firstRecordTimestamp"]});
            batch.insert("recordInfo".to_owned(), record);
        }
        serde_json::to_vec(&message)
    }
}

/// A Kafka timestamp in Lambda's format; empty for -1, which Kafka uses for a record without a timestamp.
fn iso(milliseconds: i64) -> String {
    let time = Timestamp::from_millisecond(milliseconds).ok().filter(|_| milliseconds >= 0);
    time.map_or_else(String::new, |time| time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
}

#[cfg(test)]
mod tests;
