//! The binary `postern-kafka-poller`: polls a topic and invokes a function until SIGTERM or SIGINT.

use std::fs::OpenOptions;
use std::path::PathBuf;
use std::time::Duration;

use aws_credential_types::Credentials;
use clap::Parser;
use postern_kafka_poller::dead_letters::{Bucket, DeadLetters, Topic};
use postern_kafka_poller::decode::{Attribute, Decoder};
use postern_kafka_poller::event::Origin;
use postern_kafka_poller::filter::Filters;
use postern_kafka_poller::invoke::{Caller, Lambda};
use postern_kafka_poller::mapping::{Mapping, Policy};
use postern_kafka_poller::poller::Poller;
use postern_kafka_poller::registry::Registry;
use postern_kafka_poller::source::{EVENT_BYTES, Limits, Source, Start};
use tokio::signal::unix::{SignalKind, signal};

/// Lambda's limit on retries for a mapping with an on-failure destination and unlimited `MaximumRetryAttempts`.
const MAX_RETRIES: u32 = 10;

/// A Kafka event source mapping on this machine. The options are the mapping's properties in `CloudFormation`.
#[derive(Debug, Parser)]
struct Options {
    /// The broker, host:port.
    #[arg(
        long,
        visible_alias = "bootstrap",
        env = "KAFKA_BOOTSTRAP_SERVERS",
        default_value = "127.0.0.1:9092"
    )]
    bootstrap_servers: String,
    /// The ARN of the MSK cluster or VPC connection that the broker stands for. Without it, events are those of a self-managed cluster.
    #[arg(long)]
    event_source_arn: Option<String>,
    /// The topic.
    #[arg(long, default_value = "customer")]
    topic: String,
    /// The consumer group that commits the offsets.
    #[arg(long, default_value = "msk-lambda-iam")]
    consumer_group_id: String,
    /// The endpoint of the Lambda API.
    #[arg(long, env = "AWS_ENDPOINT_URL", default_value = "http://127.0.0.1:4566")]
    endpoint: String,
    /// The access key that signs invocations. Without it, requests are not signed.
    #[arg(long, env = "AWS_ACCESS_KEY_ID", hide_env_values = true, requires = "secret_access_key")]
    access_key_id: Option<String>,
    /// The secret of the access key.
    #[arg(long, env = "AWS_SECRET_ACCESS_KEY", hide_env_values = true)]
    secret_access_key: Option<String>,
    /// The session token of temporary credentials.
    #[arg(long, env = "AWS_SESSION_TOKEN", hide_env_values = true)]
    session_token: Option<String>,
    /// The Region of the function.
    #[arg(long, env = "AWS_DEFAULT_REGION", default_value = "us-east-1")]
    region: String,
    /// The name of the function, or the URL at which it is invoked. A URL without a path is that of AWS's Runtime Interface Emulator.
    #[arg(long, default_value = "msk-to-s3")]
    function: String,
    /// The maximum number of records in a batch.
    #[arg(long, default_value_t = 100)]
    batch_size: usize,
    /// The number of milliseconds that a batch waits for more records.
    #[arg(long, default_value_t = 500)]
    batching_window_ms: u64,
    /// The number of retries of a failed batch; -1 means unlimited.
    #[arg(long, default_value_t = 10, allow_hyphen_values = true)]
    maximum_retry_attempts: i64,
    /// The age in seconds at which a record is given up; -1 means never.
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    maximum_record_age_in_seconds: i64,
    /// Halve a batch if the function fails.
    #[arg(long)]
    bisect_batch_on_function_error: bool,
    /// Ignore `batchItemFailures` in the function's answer.
    #[arg(long)]
    no_report_batch_item_failures: bool,
    /// The pattern that a record's value must match, in the syntax of Lambda's event filters. Several patterns are alternatives.
    #[arg(long)]
    filter: Vec<String>,
    /// The URL of a schema registry with Confluent's API. Avro records are decoded to JSON.
    #[arg(long)]
    schema_registry: Option<String>,
    /// The parts of a record that the registry's schemas describe.
    #[arg(long, value_delimiter = ',', default_value = "VALUE", requires = "schema_registry")]
    schema_attributes: Vec<Attribute>,
    /// The registry's user and password, user:password.
    #[arg(long, env = "SCHEMA_REGISTRY_USER_INFO", hide_env_values = true)]
    schema_registry_user_info: Option<String>,
    /// The pause in milliseconds before the first retry; each further retry doubles it.
    #[arg(long, default_value_t = 100)]
    retry_pause_ms: u64,
    /// Start with new records if the group has not committed an offset. Without this option, start at the beginning of the topic.
    #[arg(long)]
    latest: bool,
    /// The on-failure destination: <s3://bucket>, <s3://bucket/prefix> or <kafka://topic>, a topic of the same cluster. S3's
    /// endpoint and credentials come from the environment.
    #[arg(long, conflicts_with = "dead_letters")]
    on_failure: Option<String>,
    /// The file for dead letters if there is no on-failure destination. Each batch is one JSON line, which contains its records.
    #[arg(long, default_value = "dead-letters.jsonl")]
    dead_letters: PathBuf,
    /// The UUID of the mapping, which is part of the keys at the on-failure destination.
    #[arg(long, default_value = "00000000-0000-4000-8000-000000000000")]
    uuid: String,
}

fn caller(options: &Options) -> Option<Caller> {
    let (key, secret) = (options.access_key_id.as_ref()?, options.secret_access_key.as_ref()?);
    let credentials = Credentials::new(key, secret, options.session_token.clone(), None, "environment");
    Some(Caller { credentials, region: options.region.clone() })
}

// The signals are handled explicitly because a shell starts background processes with SIGINT ignored.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), postern_runtime::Error> {
    postern_runtime::log::init(env!("CARGO_CRATE_NAME"));
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        outcome = poll(Options::parse()) => outcome,
        // Records that are not committed are delivered again, so there is nothing to save.
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

async fn poll(options: Options) -> Result<(), postern_runtime::Error> {
    let caller = caller(&options);
    let origin = Origin {
        topic: options.topic.clone(),
        bootstrap_servers: options.bootstrap_servers.clone(),
        arn: options.event_source_arn.clone(),
    };
    let limits = Limits {
        records: options.batch_size.clamp(1, 10_000),
        bytes: EVENT_BYTES,
        window: Duration::from_millis(options.batching_window_ms),
    };
    let start = if options.latest { Start::Latest } else { Start::TrimHorizon };

    let filters = Filters::parse(options.filter.iter().map(String::as_str))?;
    let function = Lambda::at(&invocation_url(&options.endpoint, &options.function), caller)?;
    let source = Source::open(&origin, &options.consumer_group_id, start, limits)?;
    let (policy, decoder) = (policy(&options), decoder(&options).await?);
    let dead_letters = dead_letters(&options, &origin).await?;

    let mapping = Mapping::new(origin, policy, &options.function, function, dead_letters);
    Poller { source, decoder, filters, mapping }.run().await
}

async fn decoder(options: &Options) -> Result<Option<Decoder>, postern_runtime::Error> {
    let Some(url) = &options.schema_registry else { return Ok(None) };
    let registry = Registry::open(url, options.schema_registry_user_info.as_deref()).await?;
    Ok(Some(Decoder::new(registry, options.schema_attributes.clone())))
}

/// The URL that invokes a function, which is named or has a URL of its own.
fn invocation_url(endpoint: &str, function: &str) -> String {
    let (endpoint, name) = match function.split_once("://") {
        // Everything after the host is the path.
        Some((_, rest)) if rest.trim_end_matches('/').contains('/') => return function.to_owned(),
        Some(_) => (function, "function"),
        None => (endpoint, function),
    };
    format!("{}/2015-03-31/functions/{name}/invocations", endpoint.trim_end_matches('/'))
}

fn policy(options: &Options) -> Policy {
    let bounded = options.on_failure.as_ref().map(|_| MAX_RETRIES);
    Policy {
        retries: u32::try_from(options.maximum_retry_attempts).ok().or(bounded),
        age: u64::try_from(options.maximum_record_age_in_seconds).ok().map(Duration::from_secs),
        bisect: options.bisect_batch_on_function_error,
        partial: !options.no_report_batch_item_failures,
        pause: Duration::from_millis(options.retry_pause_ms),
    }
}

async fn dead_letters(options: &Options, origin: &Origin) -> Result<DeadLetters, postern_runtime::Error> {
    Ok(match &options.on_failure {
        Some(url) if url.starts_with("kafka://") => DeadLetters::Topic(Topic::open(origin, url)?),
        Some(url) => {
            let s3 = aws_sdk_s3::Client::new(&postern_runtime::aws::config());
            DeadLetters::S3(Bucket::open(s3, url, &options.uuid).await?)
        }
        None => DeadLetters::File(OpenOptions::new().append(true).create(true).open(&options.dead_letters)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minus_one_is_unlimited_unless_lambda_has_a_limit() {
        let read =
            |options: &[&str]| policy(&Options::parse_from([&["postern-kafka-poller"], options].concat()));
        let forever = ["--maximum-retry-attempts", "-1", "--maximum-record-age-in-seconds", "-1"];
        assert_eq!((read(&forever).retries, read(&forever).age), (None, None));
        assert_eq!(read(&[&forever[..], &["--on-failure", "s3://b"]].concat()).retries, Some(10));
        let bounded = read(&["--maximum-retry-attempts", "0", "--maximum-record-age-in-seconds", "60"]);
        assert_eq!((bounded.retries, bounded.age), (Some(0), Some(Duration::from_mins(1))));
        assert_eq!((read(&[]).retries, read(&[]).age), (Some(10), None));
    }

    #[test]
    fn a_function_is_invoked_by_its_name_or_at_its_url() {
        let at = "http://127.0.0.1:9/2015-03-31/functions";
        assert_eq!(invocation_url("http://127.0.0.1:9/", "f"), format!("{at}/f/invocations"));
        assert_eq!(invocation_url("x", "http://127.0.0.1:9"), format!("{at}/function/invocations"));
        assert_eq!(invocation_url("x", "http://127.0.0.1:9/run"), "http://127.0.0.1:9/run");
    }

    #[test]
    fn schema_attributes_are_those_of_the_mapping() {
        let read = |options: &[&str]| {
            let all = [&["postern-kafka-poller", "--schema-registry", "http://r"], options].concat();
            Options::parse_from(all).schema_attributes
        };
        assert_eq!(read(&[]), [Attribute::Value]);
        assert_eq!(read(&["--schema-attributes", "KEY,VALUE"]), [Attribute::Key, Attribute::Value]);

        let alone = Options::try_parse_from(["postern-kafka-poller", "--schema-attributes", "KEY"]);
        assert!(alone.is_err(), "attributes without a registry would be ignored");
    }

    #[test]
    fn dead_letters_have_a_default_file() {
        let options = Options::parse_from(["postern-kafka-poller"]);
        assert_eq!(options.dead_letters, PathBuf::from("dead-letters.jsonl"));
    }
}
