//! A Kafka broker on this machine: noida-db, one binary without a JVM; and what a producer does with it.

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use tokio::process::{Child, Command};

/// A broker that lives as long as this.
#[derive(Debug)]
pub struct Broker {
    _process: Child,
    /// Where it listens, host:port.
    pub address: String,
}

/// A port that was free a moment ago.
pub fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl Broker {
    /// Starts `program` (noida-db's binary) with its data in `folder`. It takes connections a moment later: clients
    /// wait for it.
    pub fn start(program: &Path, folder: &Path) -> std::io::Result<Self> {
        let port = free_port()?;
        let process = Command::new(program)
            .args(["start", "--only", "kafka", "--host", "127.0.0.1", "--kafka-port", &port.to_string()])
            .arg("--data-dir")
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self { _process: process, address: format!("127.0.0.1:{port}") })
    }
}

/// Makes a topic; waits for the broker to be there.
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

/// One record to produce.
#[derive(Debug, Clone)]
pub struct Produced<'r> {
    /// The partition; without one the key's hash decides.
    pub partition: Option<i32>,
    /// The key.
    pub key: &'r str,
    /// The value; none is a tombstone.
    pub value: Option<&'r [u8]>,
}

/// Produces records in their order; returns once the broker has all of them.
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
