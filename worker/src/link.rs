//! What the worker needs of its MQTT connection, and no more: the client library stays behind this.

use std::future::Future;

use bytes::Bytes;
use postern_types::Topic;

/// A connection that keeps itself up: it reconnects and subscribes again by itself.
pub trait Link: Clone + Send + Sync + 'static {
    /// What acknowledges one message that came in.
    type Receipt: Send;

    /// Publishes at QoS 1 and waits for the broker's PUBACK, over as many reconnections as it takes.
    fn publish(&self, topic: &Topic, payload: Bytes)
    -> impl Future<Output = Result<(), PublishError>> + Send;

    /// Acknowledges a message (PUBACK): the broker may forget it.
    fn acknowledge(&self, receipt: Self::Receipt) -> impl Future<Output = ()> + Send;

    /// Disconnects in good order. The broker keeps the session, and what comes in for it.
    fn close(&self) -> impl Future<Output = ()> + Send;
}

/// What comes in over a [`Link`].
#[derive(Debug)]
pub enum Incoming<Receipt> {
    /// A message on the worker's topic.
    Message {
        /// As it was published.
        payload: Bytes,
        /// To acknowledge it with.
        receipt: Receipt,
    },
    /// The broker does not let the worker subscribe: it would be deaf. In words.
    SubscriptionRefused(String),
}

/// Why a message is not with the broker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The broker lost the session, and the message with it: publish it again.
    #[error("the broker lost the session before it acknowledged the message")]
    Lost,
    /// The broker's policy does not allow it.
    #[error("the broker refused the message: {0}")]
    Refused(String),
    /// More than the broker said it takes.
    #[error("the message has {bytes} bytes and the broker takes packets of at most {most}")]
    TooLarge {
        /// The payload's size.
        bytes: usize,
        /// The broker's Maximum Packet Size.
        most: usize,
    },
    /// The link was closed.
    #[error("the connection was closed")]
    Closed,
}
