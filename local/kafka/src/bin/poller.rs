//! Polls a topic and invokes a function, until it is told to stop.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use aws_credential_types::Credentials;
use clap::Parser;
use postern_kafka_poller::event::Origin;
use postern_kafka_poller::invoke::{Caller, Lambda};
use postern_kafka_poller::mapping::{DeadLetters, Letter, Mapping, Policy};
use postern_kafka_poller::source::{EVENT_BYTES, Limits, Source, Start};

/// A Kafka event source mapping: options are named as its properties in CloudFormation.
#[derive(Debug, Parser)]
struct Options {
    /// The broker, host:port.
    #[arg(long, env = "KAFKA_BOOTSTRAP_SERVERS", default_value = "127.0.0.1:9092")]
    bootstrap_servers: String,
    /// The topic.
    #[arg(long, default_value = "customer")]
    topic: String,
    /// The consumer group, in whose name offsets are committed.
    #[arg(long, default_value = "msk-lambda-iam")]
    consumer_group_id: String,
    /// Lambda's endpoint.
    #[arg(long, env = "AWS_ENDPOINT_URL", default_value = "http://127.0.0.1:4566")]
    endpoint: String,
    /// Who invokes the function, as for every AWS client; without a key requests are not signed.
    #[arg(long, env = "AWS_ACCESS_KEY_ID", hide_env_values = true, requires = "secret_access_key")]
    access_key_id: Option<String>,
    /// The key's secret.
    #[arg(long, env = "AWS_SECRET_ACCESS_KEY", hide_env_values = true)]
    secret_access_key: Option<String>,
    /// The session, of temporary credentials.
    #[arg(long, env = "AWS_SESSION_TOKEN", hide_env_values = true)]
    session_token: Option<String>,
    /// The function's region.
    #[arg(long, env = "AWS_DEFAULT_REGION", default_value = "us-east-1")]
    region: String,
    /// The function's name.
    #[arg(long, default_value = "msk-to-s3")]
    function: String,
    /// Records in a batch, at most.
    #[arg(long, default_value_t = 100)]
    batch_size: usize,
    /// Milliseconds that a batch waits for more records.
    #[arg(long, default_value_t = 500)]
    batching_window_ms: u64,
    /// Retries of a failed batch; -1 is without end.
    #[arg(long, default_value_t = 10, allow_hyphen_values = true)]
    maximum_retry_attempts: i64,
    /// Halve a batch that fails.
    #[arg(long)]
    bisect_batch_on_function_error: bool,
    /// Do not read the function's answer for records that failed.
    #[arg(long)]
    no_report_batch_item_failures: bool,
    /// Milliseconds before the first retry.
    #[arg(long, default_value_t = 100)]
    retry_pause_ms: u64,
    /// Begin with new records where the group has no offset yet.
    #[arg(long)]
    latest: bool,
    /// Where records go that could not be processed, one JSON line a batch. They hold the records' content.
    #[arg(long, default_value = "dead-letters.jsonl")]
    dead_letters: PathBuf,
}

fn caller(options: &Options) -> Option<Caller> {
    let (key, secret) = (options.access_key_id.as_ref()?, options.secret_access_key.as_ref()?);
    let credentials = Credentials::new(key, secret, options.session_token.clone(), None, "environment");
    Some(Caller { credentials, region: options.region.clone() })
}

/// A file of JSON lines, written through before the batch is committed.
struct Lines(File);

impl DeadLetters for Lines {
    fn keep(&mut self, letter: &Letter) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(letter)?;
        line.push(b'\n');
        self.0.write_all(&line)?;
        self.0.sync_data()
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), postern_runtime::Error> {
    postern_runtime::log::init();
    let options = Options::parse();
    let stop = tokio::signal::ctrl_c();
    tokio::select! {
        outcome = poll(options) => outcome,
        // What is not committed comes again: nothing is to be saved here.
        _ = stop => Ok(()),
    }
}

async fn poll(options: Options) -> Result<(), postern_runtime::Error> {
    let caller = caller(&options);
    let origin = Origin { topic: options.topic, bootstrap_servers: options.bootstrap_servers };
    let limits = Limits {
        records: options.batch_size.clamp(1, 10_000),
        bytes: EVENT_BYTES,
        window: Duration::from_millis(options.batching_window_ms),
    };
    let start = if options.latest { Start::Latest } else { Start::TrimHorizon };
    let policy = Policy {
        retries: u32::try_from(options.maximum_retry_attempts).ok(),
        bisect: options.bisect_batch_on_function_error,
        partial: !options.no_report_batch_item_failures,
        pause: Duration::from_millis(options.retry_pause_ms),
    };
    let letters = Lines(OpenOptions::new().append(true).create(true).open(&options.dead_letters)?);
    let function = Lambda::new(&options.endpoint, &options.function, caller)?;
    let mut source = Source::open(&origin, &options.consumer_group_id, start, limits)?;
    let mut mapping = Mapping::new(origin, policy, function, letters);
    loop {
        let mut batch = source.batch().await?;
        let next = batch.next();
        for record in batch.too_large.drain(..) {
            mapping.too_large(record)?;
        }
        let records = batch.records.len();
        if records > 0 {
            mapping.process(batch.records).await?;
        }
        source.commit(&next)?;
        tracing::info!(records, counts = ?mapping.counts(), "batch committed");
    }
}
