//! What a run is made of: broker, bucket, function, poller.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{BehaviorVersion, Region};
use postern_kafka_poller::broker::{Broker, create_topic};
use postern_kafka_poller::event::Origin;
use postern_kafka_poller::runtime_api::Runtime;
use postern_kafka_poller::source::committed;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use tokio::process::{Child, Command};

pub(crate) const TOPIC: &str = "customer";
pub(crate) const GROUP: &str = "msk-lambda-iam";
pub(crate) const PARTITIONS: i32 = 3;
pub(crate) const BUCKET: &str = "customers";

/// How long a condition may take to come true, on a machine that has other work.
const PATIENCE: Duration = Duration::from_mins(10);

/// A program named by an environment variable.
pub(crate) fn program(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// A broker: noida-db where `POSTERN_NOIDA_DB` names its binary, else librdkafka's mock, which forgets what is
/// beyond some megabytes.
pub(crate) enum Kafka {
    Noida(Broker),
    Mock(MockCluster<'static, DefaultProducerContext>),
}

impl Kafka {
    pub(crate) async fn start(folder: &Path) -> (Self, Origin) {
        let kafka = if let Some(program) = program("POSTERN_NOIDA_DB") {
            let broker = Broker::start(&program, folder).unwrap();
            let made = || async { create_topic(&broker.address, TOPIC, PARTITIONS).await.is_ok() };
            until("the broker makes a topic", made).await;
            Self::Noida(broker)
        } else {
            let mock = MockCluster::new(1).unwrap();
            mock.create_topic(TOPIC, PARTITIONS, 1).unwrap();
            Self::Mock(mock)
        };
        let bootstrap_servers = match &kafka {
            Self::Noida(broker) => broker.address.clone(),
            Self::Mock(mock) => mock.bootstrap_servers(),
        };
        (kafka, Origin { topic: TOPIC.into(), bootstrap_servers })
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Noida(_) => "noida-db",
            Self::Mock(_) => "librdkafka's mock cluster",
        }
    }
}

/// Waits until a condition is true.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "never came true: {what}");
}

/// A client of the bucket, which it makes.
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
    until("the bucket is made", || async { s3.create_bucket().bucket(BUCKET).send().await.is_ok() }).await;
    s3
}

/// The function's binary, built if it is not.
fn function() -> PathBuf {
    program("POSTERN_MSK_TO_S3").unwrap_or_else(|| {
        let built =
            std::process::Command::new(env!("CARGO")).args(["build", "--quiet", "-p", "msk-to-s3"]).status();
        assert!(built.unwrap().success());
        let poller = Path::new(env!("CARGO_BIN_EXE_kafka-poller"));
        poller.with_file_name("msk-to-s3")
    })
}

/// The function, writing to S3 at this endpoint with these settings.
pub(crate) async fn lambda(s3: &str, settings: &[(&str, &str)]) -> Runtime {
    let mut environment: BTreeMap<String, String> =
        settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    for (name, value) in [
        ("AWS_ENDPOINT_URL", s3),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_LAMBDA_LOG_LEVEL", "OFF"),
        ("S3_BUCKET_NAME", BUCKET),
    ] {
        environment.insert(name.to_owned(), value.to_owned());
    }
    Runtime::start(function(), environment, None).await.unwrap()
}

/// Starts the poller.
pub(crate) fn poller(origin: &Origin, endpoint: &str, letters: &Path, options: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_kafka-poller"))
        .args([
            "--bootstrap-servers",
            &origin.bootstrap_servers,
            "--topic",
            TOPIC,
            "--consumer-group-id",
            GROUP,
        ])
        .args([
            "--endpoint",
            endpoint,
            "--batching-window-ms",
            "20",
            "--retry-pause-ms",
            "1",
            "--dead-letters",
        ])
        .arg(letters)
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// Waits until the group has committed all that was produced.
pub(crate) async fn until_committed(origin: &Origin, produced: &BTreeMap<i32, i64>) {
    until("everything is committed", || async {
        let origin = origin.clone();
        let offsets =
            tokio::task::spawn_blocking(move || committed(&origin, GROUP, PARTITIONS)).await.unwrap();
        offsets.is_ok_and(|offsets| offsets == *produced)
    })
    .await;
}
