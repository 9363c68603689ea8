use serde::Deserialize;

/// An event source mapping with a Kafka topic, as Lambda lists it (`ListEventSourceMappings`).
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct EventSourceMapping {
    /// The cluster, or the connection to it.
    pub event_source_arn: String,
    /// The topic, alone in its list.
    pub topics: Vec<String>,
    /// The consumer group.
    #[serde(rename = "AmazonManagedKafkaEventSourceConfig")]
    pub kafka: KafkaConfig,
    /// Records in a batch, at most.
    pub batch_size: u32,
    /// Seconds that a batch waits for more records.
    pub maximum_batching_window_in_seconds: u32,
    /// Retries of a failed batch; -1 is without end.
    pub maximum_retry_attempts: i64,
    /// Whether a batch that fails is halved.
    pub bisect_batch_on_function_error: bool,
    /// `ReportBatchItemFailures`, where the function may name the records that failed.
    pub function_response_types: Vec<String>,
    /// Where batches go that are given up.
    pub destination_config: DestinationConfig,
}

/// What only Kafka sources have.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct KafkaConfig {
    /// In whose name offsets are committed.
    pub consumer_group_id: String,
}

/// Where records go.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DestinationConfig {
    /// Those that are given up.
    pub on_failure: Destination,
}

/// One place.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Destination {
    /// Its ARN.
    pub destination: String,
}
