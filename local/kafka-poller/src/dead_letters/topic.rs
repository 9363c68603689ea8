//! A Kafka topic for dead letters: one message for each record, as Lambda sends them to a Kafka destination.

use std::io;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::metadata::Metadata;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::util::Timeout;

use crate::event::Origin;
use crate::invocation_record::InvocationRecord;

const BROKER_TIMEOUT: Duration = Duration::from_secs(30);
/// The pause before a message is sent again, after the client's own attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// A topic of the cluster that is polled.
pub struct Topic {
    producer: FutureProducer,
    name: String,
}

impl Topic {
    /// Opens `kafka://topic` in the cluster of `origin`. Fails if the topic does not exist, or is the one that is polled:
    /// its records would be given up again and again.
    pub fn open(origin: &Origin, url: &str) -> io::Result<Self> {
        let name = url.strip_prefix("kafka://").filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| io::Error::other(format!("{url} is not kafka://topic")))?;
        if name == origin.topic {
            return Err(io::Error::other(format!(
                "{url} is the topic that is polled; the on-failure destination must be another topic"
            )));
        }

        let producer: FutureProducer = ClientConfig::new()
            .set("bootstrap.servers", &origin.bootstrap_servers)
            .set("acks", "all")
            .create()
            .map_err(io::Error::other)?;
        let metadata = metadata(origin, name).map_err(io::Error::other)?;
        if metadata.topics().iter().all(|topic| topic.partitions().is_empty()) {
            return Err(io::Error::other(format!("the topic {name} does not exist")));
        }
        Ok(Self { producer, name: name.to_owned() })
    }

    /// Retries until the broker has acknowledged the message: the batch must not be committed before. The message has
    /// the key of the record, so that both topics have a key's records in one partition.
    pub(crate) async fn put(&self, record: &InvocationRecord) -> io::Result<()> {
        let body = record.topic_message()?;
        loop {
            let mut message: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(&self.name).payload(&body);
            message.key = record.key.as_deref();
            match self.producer.send(message, Timeout::Never).await {
                Ok(_) => return Ok(()),
                Err((error @ KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge), _)) => {
                    return Err(io::Error::other(error));
                }
                Err((error, _)) => {
                    let topic = self.name.as_str();
                    tracing::warn!(topic, %error, "an invocation record could not be written; writing it again");
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// The topic's metadata. A consumer asks for them, because a broker may create a topic that a producer asks for.
fn metadata(origin: &Origin, topic: &str) -> Result<Metadata, KafkaError> {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", &origin.bootstrap_servers).create()?;
    consumer.fetch_metadata(Some(topic), BROKER_TIMEOUT)
}
