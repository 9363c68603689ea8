//! The worker's view of its MQTT connection: publish, receive, acknowledge, close.
//!
//! Jobs and [control messages](ControlMessage) arrive in two queues: a worker that takes no jobs at the moment, because
//! it is paused or full, still learns that it may continue and which jobs are cancelled.
//!
//! The engine knows this trait and nothing of MQTT. [`Mqtt`](crate::Mqtt) implements it for a broker; the engine's
//! tests implement it in memory.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use postern_types::Topic;
use tokio::sync::{mpsc, watch};

/// A connection to the broker that reconnects and subscribes again by itself.
pub trait Link: Clone + Send + Sync + 'static {
    /// Identifies one delivery of one incoming message, so that it can be acknowledged.
    type Receipt: Send + 'static;

    /// Publishes a message and waits until the broker has acknowledged it, or at [`Guarantee::AtMostOnce`] until it
    /// was sent.
    ///
    /// The link keeps the message across reconnections and sends it again on the next connection. Dropping the
    /// future withdraws the message if it has not been sent yet.
    fn publish(
        &self,
        topic: &Topic,
        payload: Bytes,
        priority: Priority,
        guarantee: Guarantee,
    ) -> impl Future<Output = Result<(), PublishError>> + Send;

    /// Acknowledges a message (PUBACK), which lets the broker forget it.
    ///
    /// Does not wait. The broker accepts an acknowledgement only on the connection that delivered the message: a
    /// receipt of an earlier connection does nothing, and the broker delivers that message again.
    fn acknowledge(&self, receipt: Self::Receipt);

    /// The number of connections so far on which the worker had its control topics; 0 if the broker refuses them.
    ///
    /// A worker whose policy is older than these topics may not publish its state and the progress of its jobs either.
    fn controlled(&self) -> watch::Receiver<u64>;

    /// Whether messages that the broker has kept for the worker may still be on their way. Jobs that start meanwhile could
    /// have been cancelled already.
    fn unsettled(&self) -> watch::Receiver<bool>;

    /// Disconnects. The broker keeps the session and stores the messages that arrive for it.
    fn close(&self) -> impl Future<Output = ()> + Send;
}

/// Which messages go first when the connection may not send all of them at once.
///
/// The variants are ordered: each is sent before any waiting message of a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// A job's result or failure: somebody waits for it.
    Answer,
    /// The notice that a worker has taken a job.
    Accepted,
    /// The notice that a job is still alive. The next one replaces it.
    Heartbeat,
    /// What an operator looks at: the worker's state, and the progress of its jobs.
    View,
}

/// How much the broker promises for a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guarantee {
    /// QoS 1: the broker acknowledges the message, and the link repeats it until then.
    AtLeastOnce,
    /// QoS 1, and the broker keeps the message for later subscribers, in the place of the last one on this topic.
    Retained,
    /// QoS 0: a message that is lost on the way is lost.
    AtMostOnce,
}

/// Where what arrives can be taken: jobs, and messages about jobs and the worker itself.
#[derive(Debug)]
pub struct Inbox<Receipt> {
    /// Jobs, and the end of the subscription to them.
    pub jobs: mpsc::Receiver<Incoming<Receipt>>,
    /// Messages that concern jobs that the worker has, or the worker itself.
    pub control: mpsc::Receiver<ControlMessage<Receipt>>,
}

/// A message on one of the worker's control topics.
#[derive(Debug)]
pub struct ControlMessage<Receipt> {
    /// The topic that the message came on.
    pub kind: ControlKind,
    /// The message as it was published.
    pub payload: Bytes,
    /// How long the message is still valid, if its sender set an end.
    pub expires_in: Option<Duration>,
    /// Acknowledges this delivery; see [`Link::acknowledge`].
    pub receipt: Receipt,
}

/// The topics beside the job topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlKind {
    /// `{tenant}/to/worker/cancel`: a [`CancelMessage`](postern_types::CancelMessage).
    Cancel,
    /// `{tenant}/to/worker/{clientId}`: a [`Command`](postern_types::Command).
    Command,
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
