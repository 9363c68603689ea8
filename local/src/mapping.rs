//! Event source mappings of Kafka topics, as Lambda's `ListEventSourceMappings` describes them.

use serde::Deserialize;

/// An event source mapping of a Kafka topic.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct EventSourceMapping {
    /// The ARN of the cluster, or of the VPC connection to it.
    pub event_source_arn: String,
    /// The topics; Lambda allows exactly one.
    pub topics: Vec<String>,
    /// The settings that only Kafka sources have.
    #[serde(rename = "AmazonManagedKafkaEventSourceConfig")]
    pub kafka: KafkaConfig,
    /// The largest number of records in a batch.
    pub batch_size: u32,
    /// How many seconds a batch waits for more records.
    pub maximum_batching_window_in_seconds: u32,
    /// The number of times that a failed batch is retried; -1 means that there is no limit.
    pub maximum_retry_attempts: i64,
    /// Whether a failed batch is split in two.
    pub bisect_batch_on_function_error: bool,
    /// Contains `ReportBatchItemFailures` if the function reports the records that failed.
    pub function_response_types: Vec<String>,
    /// The destination of batches whose retries are used up.
    pub destination_config: DestinationConfig,
}

/// The settings that only Kafka sources have.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct KafkaConfig {
    /// The consumer group whose offsets are committed.
    pub consumer_group_id: String,
}

/// The destinations of a mapping.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DestinationConfig {
    /// The destination of batches whose retries are used up.
    pub on_failure: Destination,
}

/// A queue, topic or bucket.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Destination {
    /// The ARN of the queue, topic or bucket.
    pub destination: String,
}
