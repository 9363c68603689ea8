//! The worker's view of its MQTT connection: publish, receive, acknowledge, close.
//!
//! The engine knows this trait and nothing of MQTT. [`Mqtt`](crate::Mqtt) implements it for a broker; the engine's
//! tests implement it in memory.

use std::future::Future;

use bytes::Bytes;
use postern_types::Topic;

/// A connection to the broker that reconnects and subscribes again by itself.
pub trait Link: Clone + Send + Sync + 'static {
    /// Identifies one delivery of one incoming message, so that it can be acknowledged.
    type Receipt: Send + 'static;

    /// Publishes a message at QoS 1 and waits until the broker has acknowledged it.
    ///
    /// The link keeps the message across reconnections and sends it again on the next connection. Dropping the
    /// future withdraws the message if it has not been sent yet.
    fn publish(
        &self,
        topic: &Topic,
        payload: Bytes,
        priority: Priority,
    ) -> impl Future<Output = Result<(), PublishError>> + Send;

    /// Acknowledges a message (PUBACK), which lets the broker forget it.
    ///
    /// Does not wait. The broker accepts an acknowledgement only on the connection that delivered the message: a
    /// receipt of an earlier connection does nothing, and the broker delivers that message again.
    fn acknowledge(&self, receipt: Self::Receipt);

    /// Disconnects. The broker keeps the session and stores the messages that arrive for it.
    fn close(&self) -> impl Future<Output = ()> + Send;
}

/// Which messages go first when the connection may not send all of them at once.
///
/// The variants are ordered: an `Answer` is sent before any waiting `Accepted`, and an `Accepted` before any
/// waiting `Heartbeat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// A job's result or failure: somebody waits for it.
    Answer,
    /// The notice that a worker has taken a job.
    Accepted,
    /// The notice that a job is still alive. The next one replaces it.
    Heartbeat,
}

/// What a [`Link`] reports to the engine.
#[derive(Debug)]
pub enum Incoming<Receipt> {
    /// A message on the worker's job topic.
    Message {
        /// The message as it was published.
        payload: Bytes,
        /// Acknowledges this delivery; see [`Link::acknowledge`].
        receipt: Receipt,
    },
    /// The broker refused the subscription, so that no job can arrive. The text explains why.
    SubscriptionRefused(String),
}

/// Why the broker does not have a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The broker refused the message, for example because the IoT policy does not allow it.
    #[error("the broker refused the message: {0}")]
    Refused(String),
    /// The message is larger than the Maximum Packet Size that the broker announced.
    #[error("the message has {bytes} bytes; the broker takes at most {most}")]
    TooLarge {
        /// The payload's size.
        bytes: usize,
        /// The largest payload that fits into a packet of the broker's Maximum Packet Size.
        most: usize,
    },
    /// The link was closed before the broker acknowledged the message.
    #[error("the connection was closed before the broker acknowledged the message")]
    Closed,
}
