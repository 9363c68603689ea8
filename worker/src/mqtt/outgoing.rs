//! The messages that wait to be published, by priority. The queue outlives connections: what a connection has not
//! brought to the broker goes back to the front.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};

use crate::link::{Guarantee, Priority, PublishError};

/// A message on its way to the broker.
pub(super) struct Message {
    pub(super) topic: String,
    pub(super) payload: Bytes,
    pub(super) priority: Priority,
    pub(super) guarantee: Guarantee,
    /// Gets the outcome. Closed when nobody waits for the message any more.
    pub(super) outcome: oneshot::Sender<Result<(), PublishError>>,
}

impl Message {
    fn is_withdrawn(&self) -> bool {
        self.outcome.is_closed()
    }

    /// Reports the outcome to the publisher, who may have gone away.
    pub(super) fn finish(self, outcome: Result<(), PublishError>) {
        let _ = self.outcome.send(outcome);
    }
}

/// The queue of messages, answers first.
#[derive(Default)]
pub(super) struct Outgoing {
    queues: Mutex<Queues>,
    /// Wakes the one connection that waits for a message.
    added: Notify,
}

#[derive(Default)]
struct Queues {
    by_priority: [VecDeque<Message>; 4],
    closed: bool,
}

impl Outgoing {
    /// Adds a new message behind those of its priority.
    pub(super) fn push(&self, message: Message) {
        self.add(message, VecDeque::push_back);
    }

    /// Puts a message back that was taken and is not with the broker.
    pub(super) fn put_back(&self, message: Message) {
        self.add(message, VecDeque::push_front);
    }

    fn add(&self, message: Message, add: impl FnOnce(&mut VecDeque<Message>, Message)) {
        let mut queues = self.queues();
        if queues.closed {
            return message.finish(Err(PublishError::Closed));
        }
        add(&mut queues.by_priority[message.priority as usize], message);
        drop(queues);

        self.added.notify_one();
    }

    /// The first message of the highest priority, without those that were withdrawn. Waits for one to come.
    pub(super) async fn next(&self) -> Message {
        loop {
            let message = {
                let mut queues = self.queues();
                queues.by_priority.iter_mut().find_map(first_kept)
            };
            match message {
                Some(message) => return message,
                None if self.queues().closed => pending().await,
                None => self.added.notified().await,
            }
        }
    }

    /// Fails all waiting messages, and every later one.
    pub(super) fn close(&self) {
        let mut queues = self.queues();
        queues.closed = true;
        let waiting: Vec<_> = queues.by_priority.iter_mut().flat_map(|queue| queue.drain(..)).collect();
        drop(queues);

        for message in waiting {
            message.finish(Err(PublishError::Closed));
        }
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the first message that was not withdrawn, and drops those before it.
fn first_kept(queue: &mut VecDeque<Message>) -> Option<Message> {
    std::iter::from_fn(|| queue.pop_front()).find(|message| !message.is_withdrawn())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Outcome = oneshot::Receiver<Result<(), PublishError>>;

    fn message(payload: &'static str, priority: Priority) -> (Message, Outcome) {
        let (outcome, receiver) = oneshot::channel();
        let payload = Bytes::from_static(payload.as_bytes());
        let message =
            Message { topic: "t".into(), payload, priority, guarantee: Guarantee::AtLeastOnce, outcome };
        (message, receiver)
    }

    #[tokio::test]
    async fn answers_go_first_and_each_priority_keeps_its_order() {
        let outgoing = Outgoing::default();
        let (messages, _outcomes): (Vec<_>, Vec<_>) = [
            ("view", Priority::View),
            ("heartbeat", Priority::Heartbeat),
            ("accepted 1", Priority::Accepted),
            ("answer 1", Priority::Answer),
            ("accepted 2", Priority::Accepted),
            ("answer 2", Priority::Answer),
        ]
        .map(|(payload, priority)| message(payload, priority))
        .into_iter()
        .unzip();
        for message in messages {
            outgoing.push(message);
        }

        for expected in ["answer 1", "answer 2", "accepted 1", "accepted 2", "heartbeat", "view"] {
            assert_eq!(outgoing.next().await.payload, expected);
        }
    }

    #[tokio::test]
    async fn a_message_that_is_put_back_goes_next_and_a_withdrawn_one_never() {
        let outgoing = Outgoing::default();
        let (first, _first) = message("first", Priority::Answer);
        let (withdrawn, outcome) = message("withdrawn", Priority::Answer);
        let (second, _second) = message("second", Priority::Answer);
        for message in [first, withdrawn, second] {
            outgoing.push(message);
        }
        drop(outcome);

        let taken = outgoing.next().await;
        outgoing.put_back(taken);
        assert_eq!(outgoing.next().await.payload, "first");
        assert_eq!(outgoing.next().await.payload, "second");
    }

    #[tokio::test]
    async fn a_closed_queue_fails_what_waits_and_what_comes() {
        let outgoing = Outgoing::default();
        let (waiting, waiting_outcome) = message("waiting", Priority::Answer);
        let (late, late_outcome) = message("late", Priority::Answer);
        outgoing.push(waiting);
        outgoing.close();
        outgoing.push(late);
        assert_eq!(waiting_outcome.await.unwrap(), Err(PublishError::Closed));
        assert_eq!(late_outcome.await.unwrap(), Err(PublishError::Closed));
    }
}
