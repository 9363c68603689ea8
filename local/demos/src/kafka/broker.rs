//! Starts a Kafka broker on this machine (noida-db, one binary without a JVM), creates topics and produces records.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// A running broker. Dropping it stops the process.
#[derive(Debug)]
pub struct Broker {
    _process: Child,
    // Keeps the pipe open: the broker would fail when it writes to a closed one.
    _output: Lines<BufReader<ChildStdout>>,
    /// The address on which the broker listens, host:port.
    pub address: String,
}

/// The path of noida-db's binary in the virtual environment that `make kafka-tools` creates.
pub fn program(environment: &Path) -> std::io::Result<PathBuf> {
    let script = "import importlib.resources as r; print(r.files('noida_db') / 'noida-db', end='')";
    let output = std::process::Command::new(environment.join("bin/python")).args(["-c", script]).output();
    match output {
        Ok(output) if output.status.success() => Ok(OsString::from_vec(output.stdout).into()),
        _ => Err(std::io::Error::other("the Kafka broker is not installed: run `make kafka-tools`")),
    }
}

impl Broker {
    /// Starts `program` (noida-db's binary) with its data in `folder`, on a free port. Returns once the broker listens.
    pub async fn start(program: &Path, folder: &Path) -> std::io::Result<Self> {
        let mut process = Command::new(program)
            .args(["start", "--only", "kafka", "--host", "127.0.0.1", "--kafka-port", "0"])
            .arg("--data-dir")
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;

        let ended = || std::io::Error::other("the Kafka broker ended before it listened on a port");
        let mut output = BufReader::new(process.stdout.take().ok_or_else(ended)?).lines();
        loop {
            let line = output.next_line().await?.ok_or_else(ended)?;
            // The broker prints, for example, "  kafka          127.0.0.1:46001".
            if let Some(("kafka", address)) = line.trim().split_once(char::is_whitespace) {
                let address = address.trim().to_owned();
                return Ok(Self { _process: process, _output: output, address });
            }
        }
    }
}

/// Creates a topic. Waits until the broker accepts connections.
pub async fn create_topic(broker: &str, topic: &str, partitions: i32) -> Result<(), KafkaError> {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", broker)
        .set("reconnect.backoff.max.ms", "100")
        .create()?;
    let topic = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));

    for result in
        admin.create_topics([&topic], &options.request_timeout(Some(Duration::from_secs(30)))).await?
    {
        result.map_err(|(_, code)| KafkaError::AdminOp(code))?;
    }
    Ok(())
}

/// A record to produce.
#[derive(Debug, Clone)]
pub struct Produced<'r> {
    /// The partition; if it is `None`, the key's hash decides.
    pub partition: Option<i32>,
    /// The key.
    pub key: &'r str,
    /// The value; `None` is a tombstone.
    pub value: Option<&'r [u8]>,
}

/// Produces records in order. Returns once the broker has acknowledged all of them.
pub fn produce<'r>(
    broker: &str,
    topic: &str,
    records: impl IntoIterator<Item = Produced<'r>>,
) -> Result<(), KafkaError> {
    let producer: ThreadedProducer<_> = ClientConfig::new()
        .set("bootstrap.servers", broker)
        .set("enable.idempotence", "false")
        .set("max.in.flight.requests.per.connection", "1")
        .set("queue.buffering.max.messages", "1000000")
        .set("linger.ms", "5")
        .create()?;

    for Produced { partition, key, value } in records {
        let origin = Header { key: "origin", value: Some("São Paulo") };
        let mut record = BaseRecord::to(topic).key(key).headers(OwnedHeaders::new().insert(origin));
        record.payload = value;
        record.partition = partition;
        producer.send::<str, [u8]>(record).map_err(|(error, _)| error)?;
    }
    producer.flush(Duration::from_mins(1))
}
