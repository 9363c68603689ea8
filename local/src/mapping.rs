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
    /// The filters, if not every record is read.
    pub filter_criteria: Option<FilterCriteria>,
}

/// The filters of a mapping. A record has to match one of them.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct FilterCriteria {
    /// The filters.
    pub filters: Vec<Filter>,
}

/// A filter.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Filter {
    /// The pattern, JSON such as `{"value":{"country":["DE"]}}`.
    pub pattern: String,
}

/// The settings that only Kafka sources have.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct KafkaConfig {
    /// The consumer group whose offsets are committed.
    pub consumer_group_id: String,
    /// The schema registry, if records are decoded.
    pub schema_registry_config: Option<SchemaRegistryConfig>,
}

/// A schema registry, and the parts of a record that it decodes.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SchemaRegistryConfig {
    /// The URL of a Confluent registry, or the ARN of one of AWS Glue.
    #[serde(rename = "SchemaRegistryURI")]
    pub schema_registry_uri: String,
    /// The parts of a record.
    pub schema_validation_configs: Vec<SchemaValidationConfig>,
}

/// A part of a record that is decoded.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SchemaValidationConfig {
    /// `KEY` or `VALUE`.
    pub attribute: String,
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
    /// The ARN of the queue, topic or bucket, or `kafka://` and the name of a Kafka topic.
    pub destination: String,
}

impl EventSourceMapping {
    /// The options with which `postern-kafka-poller` does what this mapping does, except for the consumer group: it may be
    /// started for another one.
    pub fn poller_options(&self) -> Vec<String> {
        let window = u64::from(self.maximum_batching_window_in_seconds) * 1_000;
        let destination = &self.destination_config.on_failure.destination;
        let bucket = destination.strip_prefix("arn:aws:s3:::").map(|bucket| format!("s3://{bucket}"));

        let mut options = vec![
            ("--topic", self.topics.concat()),
            ("--event-source-arn", self.event_source_arn.clone()),
            ("--batch-size", self.batch_size.to_string()),
            ("--batching-window-ms", window.to_string()),
            ("--maximum-retry-attempts", self.maximum_retry_attempts.to_string()),
            ("--on-failure", bucket.unwrap_or_else(|| destination.clone())),
        ];
        if let Some(registry) = &self.kafka.schema_registry_config {
            let attributes =
                registry.schema_validation_configs.iter().map(|config| config.attribute.as_str());
            options.push(("--schema-registry", registry.schema_registry_uri.clone()));
            options.push(("--schema-attributes", attributes.collect::<Vec<_>>().join(",")));
        }
        let filters = self.filter_criteria.iter().flat_map(|criteria| &criteria.filters);
        options.extend(filters.map(|filter| ("--filter", filter.pattern.clone())));

        let mut options: Vec<String> =
            options.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect();
        if self.bisect_batch_on_function_error {
            options.push("--bisect-batch-on-function-error".to_owned());
        }
        if self.function_response_types.is_empty() {
            options.push("--no-report-batch-item-failures".to_owned());
        }
        options
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_mapping_becomes_the_options_of_the_poller() {
        let mut mapping = json!({
            "EventSourceArn": "arn:aws:kafka:us-east-1:1:cluster/c/1", "Topics": ["customer"], "BatchSize": 1_000,
            "AmazonManagedKafkaEventSourceConfig": {"ConsumerGroupId": "g"},
            "MaximumBatchingWindowInSeconds": 5, "MaximumRetryAttempts": 10, "BisectBatchOnFunctionError": false,
            "FunctionResponseTypes": ["ReportBatchItemFailures"],
            "DestinationConfig": {"OnFailure": {"Destination": "arn:aws:s3:::dead"}},
        });
        let options = |mapping: &serde_json::Value| {
            serde_json::from_value::<EventSourceMapping>(mapping.clone()).unwrap().poller_options().join(" ")
        };
        let usual = "--topic customer --event-source-arn arn:aws:kafka:us-east-1:1:cluster/c/1 --batch-size 1000 \
                     --batching-window-ms 5000 --maximum-retry-attempts 10 --on-failure";
        assert_eq!(options(&mapping), format!("{usual} s3://dead"));

        mapping["DestinationConfig"]["OnFailure"]["Destination"] = "kafka://failed".into();
        mapping["FunctionResponseTypes"] = json!([]);
        mapping["AmazonManagedKafkaEventSourceConfig"]["SchemaRegistryConfig"] = json!({
            "SchemaRegistryURI": "https://registry", "EventRecordFormat": "JSON",
            "SchemaValidationConfigs": [{"Attribute": "KEY"}, {"Attribute": "VALUE"}],
        });
        let registry = "--schema-registry https://registry --schema-attributes KEY,VALUE";
        mapping["FilterCriteria"] =
            json!({"Filters": [{"Pattern": "{\"value\":[\"a\"]}"}, {"Pattern": "p"}]});
        let filters = "--filter {\"value\":[\"a\"]} --filter p";
        let all = format!("{usual} kafka://failed {registry} {filters} --no-report-batch-item-failures");
        assert_eq!(options(&mapping), all);
    }
}
