//! Delivery: from the outbox to the broker's acknowledgement. Decides nothing about jobs.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use postern_types::Topic;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::answers::{self, Summary};
use crate::backoff::Backoff;
use crate::health::{Counter, Health};
use crate::journal::{Answer, Journal};
use crate::link::{Guarantee, Link, Priority, PublishError};

/// How long a worker that stops tries to deliver an answer.
const LAST_CHANCE: Duration = Duration::from_secs(5);

/// Publishes on the answer topic.
pub(crate) struct Delivery<L> {
    pub(crate) link: L,
    pub(crate) topic: Topic,
    pub(crate) journal: Journal,
    pub(crate) health: Health,
    /// The worker stops: answers that the broker refuses stay in the outbox.
    pub(crate) stop: CancellationToken,
}

/// What happens to an answer after an attempt to publish it.
enum Next {
    /// The answer leaves the outbox.
    Done,
    /// The answer stays in the outbox for the next process.
    Keep,
    /// Another message takes the answer's place.
    Replace(Bytes),
    /// The same message is published again later.
    Retry,
}

impl<L: Link> Delivery<L> {
    /// Publishes an answer until the broker has it, and takes it out of the outbox. The trace's id is for the log.
    pub(crate) async fn deliver(&self, mut answer: Answer, trace_id: Option<&str>) {
        let mut backoff = Backoff::default();
        loop {
            let published = tokio::select! {
                published = self.publish(answer.payload.clone(), Priority::Answer) => published,
                () = self.too_late() => Err(PublishError::Closed),
            };
            match self.after(published, &answer, trace_id, &mut backoff).await {
                Next::Done => return self.journal.sent(answer.id).await,
                Next::Keep => return,
                Next::Replace(payload) => {
                    self.journal.replace(answer.id, payload.clone()).await;
                    answer.payload = payload;
                }
                Next::Retry => {}
            }
        }
    }

    /// Waits until the worker has been stopping for a while. A broker that cannot be reached must not hold up the stop:
    /// the outbox keeps the answer for the next process.
    async fn too_late(&self) {
        self.stop.cancelled().await;
        sleep(LAST_CHANCE).await;
    }

    async fn after(
        &self,
        published: Result<(), PublishError>,
        answer: &Answer,
        trace_id: Option<&str>,
        backoff: &mut Backoff,
    ) -> Next {
        match published {
            Ok(()) => {
                self.health.add(Counter::Sent, 1);
                let Summary { job_id, status } = answers::summary(&answer.payload);
                tracing::info!(
                    job_id = job_id.map(tracing::field::display),
                    trace_id,
                    answer = status,
                    "answer delivered"
                );
                Next::Done
            }
            Err(PublishError::Closed) => Next::Keep,
            Err(PublishError::TooLarge { bytes, most }) => {
                let shorter = answers::shorten(&answer.payload, most);
                tracing::error!(
                    bytes,
                    most,
                    given_up = shorter.is_none(),
                    "an answer is too large for the broker"
                );
                shorter.map_or(Next::Done, Next::Replace)
            }
            Err(PublishError::Refused(reason)) => {
                self.health.add(Counter::Refused, 1);
                self.refused(&reason, answer.deadline, backoff.next()).await
            }
        }
    }

    /// A refusal is not final, because an operator can correct the policy. It is for as long as somebody waits
    /// for the answer.
    async fn refused(&self, reason: &str, deadline: Option<Timestamp>, wait: Duration) -> Next {
        tracing::error!(topic = %self.topic, retry_in = ?wait, "the broker refused an answer: {reason}");
        tokio::select! {
            () = sleep(wait) => Next::Retry,
            () = self.stop.cancelled() => Next::Keep,
            () = wait_until(deadline) => {
                tracing::error!(topic = %self.topic, "an answer is given up: its job's deadline has passed");
                Next::Done
            }
        }
    }

    /// Publishes a notice that may be lost. Returns whether the broker has it.
    pub(crate) async fn notify(&self, payload: Vec<u8>, priority: Priority) -> bool {
        let published = self.publish(payload.into(), priority).await;
        published.inspect_err(|error| tracing::debug!("a notice was not published: {error}")).is_ok()
    }

    async fn publish(&self, payload: Bytes, priority: Priority) -> Result<(), PublishError> {
        self.link.publish(&self.topic, payload, priority, Guarantee::AtLeastOnce).await
    }
}

/// Waits until the deadline. Without a deadline, the wait never ends.
pub(crate) async fn wait_until(deadline: Option<Timestamp>) {
    let Some(deadline) = deadline else { return std::future::pending().await };
    let left = deadline.duration_since(Timestamp::now());
    sleep(Duration::try_from(left).unwrap_or(Duration::ZERO)).await;
}
