//! Starts the parts of a test: broker, bucket, function and poller.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{BehaviorVersion, Region};
use postern_demos::kafka::broker::{Broker, create_topic, program};
use postern_kafka_poller::event::Origin;
use postern_kafka_poller::source::committed;
use postern_lambda::Function;
use postern_local::Project;
use tokio::process::{Child, Command};

pub(crate) const TOPIC: &str = "customer";
pub(crate) const GROUP: &str = "msk-lambda-iam";
pub(crate) const PARTITIONS: i32 = 3;
pub(crate) const BUCKET: &str = "customers";

/// The number of records in the tests with kills, unless `POSTERN_KAFKA_RECORDS` is set.
const RECORDS: usize = 3_000;

/// The number in a variable, or a default.
pub(crate) fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |value| value.parse().unwrap())
}

/// The number of records in the tests with kills.
pub(crate) fn records() -> usize {
    number("POSTERN_KAFKA_RECORDS", RECORDS)
}

/// The time limit of a condition. It is long enough for a busy machine.
fn time_limit() -> Duration {
    Duration::from_mins(10) + Duration::from_millis(6 * records() as u64)
}

/// The virtual environment that `make kafka-tools` creates.
fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../.postern/kafka-venv")
}

/// A Python that has `DuckDB`.
pub(crate) fn python() -> PathBuf {
    tools().join("bin/python")
}

/// A running broker with the topic.
pub(crate) struct Kafka {
    pub(crate) origin: Origin,
    _broker: Broker,
}

impl Kafka {
    pub(crate) async fn start(folder: &Path) -> Self {
        let broker = Broker::start(&program(&tools()).unwrap(), folder).await.unwrap();
        create_topic(&broker.address, TOPIC, PARTITIONS).await.unwrap();
        let origin = Origin::new(TOPIC, &broker.address);
        Self { origin, _broker: broker }
    }
}

/// Waits until a condition is true.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };

    let limit = time_limit();
    assert!(tokio::time::timeout(limit, wait).await.is_ok(), "not within {limit:?}: {what}");
}

/// Creates the bucket and returns a client for it.
pub(crate) async fn bucket(endpoint: &str) -> Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .force_path_style(true)
        .allow_no_auth()
        .retry_config(RetryConfig::disabled())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();

    let s3 = Client::from_conf(config);
    until("the bucket is created", || async { s3.create_bucket().bucket(BUCKET).send().await.is_ok() }).await;
    s3
}

/// The build of the function that `POSTERN_MSK_TO_S3` names, if it is set.
pub(crate) fn release_build() -> Option<PathBuf> {
    std::env::var_os("POSTERN_MSK_TO_S3").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Starts msk-to-s3 with this configuration. It writes to S3 at the endpoint `s3`.
pub(crate) async fn lambda(s3: &str, config: &[(&str, &str)]) -> Function {
    let built = || Project::here().unwrap().program("msk-to-s3");
    function(&release_build().unwrap_or_else(built), s3, config).await
}

/// Starts the function `compact` with this configuration.
pub(crate) async fn compaction(s3: &str, config: &[(&str, &str)]) -> Function {
    let config = [&[("KAFKA_TOPIC", TOPIC)], config].concat();
    function(&Project::here().unwrap().program("compact"), s3, &config).await
}

async fn function(bootstrap: &Path, s3: &str, config: &[(&str, &str)]) -> Function {
    assert!(bootstrap.exists(), "{} is not built: run `cargo build --workspace`", bootstrap.display());

    let mut variables = vec![("AWS_LAMBDA_LOG_LEVEL", "OFF"), ("S3_BUCKET_NAME", BUCKET)];
    variables.extend(aws(s3));
    variables.extend(config);
    Function::start(bootstrap, 1, &variables).await.unwrap()
}

/// The environment that points AWS clients to `endpoint`, with a key.
fn aws(endpoint: &str) -> [(&str, &str); 4] {
    [
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
    ]
}

/// Starts the poller with an otherwise empty environment.
pub(crate) fn poller(origin: &Origin, lambda: &str, s3: &str, options: &[&str]) -> Child {
    Command::new(Project::here().unwrap().program("postern-kafka-poller"))
        .args(["--bootstrap-servers", &origin.bootstrap_servers])
        .args(["--topic", TOPIC, "--consumer-group-id", GROUP, "--endpoint", lambda])
        .args(["--batching-window-ms", "20", "--retry-pause-ms", "1"])
        .args(options)
        .env_clear()
        .envs(aws(s3))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// Waits until the group has committed every record that was produced.
pub(crate) async fn until_committed(origin: &Origin, produced: &BTreeMap<i32, i64>) {
    until("every record is committed", || async {
        let origin = origin.clone();
        let offsets =
            tokio::task::spawn_blocking(move || committed(&origin, GROUP, PARTITIONS)).await.unwrap();
        offsets.is_ok_and(|offsets| offsets == *produced)
    })
    .await;
}

/// The partition and offset of the record with this number: partitions take turns.
pub(crate) fn place(number: usize) -> (i32, i64) {
    let partitions = usize::try_from(PARTITIONS).unwrap();
    (i32::try_from(number % partitions).unwrap(), i64::try_from(number / partitions).unwrap())
}

/// The committed offset of each partition once this number of records is processed.
pub(crate) fn offsets(records: usize) -> BTreeMap<i32, i64> {
    let nothing = (0..PARTITIONS).map(|partition| (partition, 0));
    nothing.chain((0..records).map(place).map(|(partition, offset)| (partition, offset + 1))).collect()
}
