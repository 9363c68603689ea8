//! The worker's own view of its state: what is wrong, what it holds, and what it has done so far. Whoever serves
//! health checks and metrics reads this; nothing here decides anything.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Counts events. Clones share the same state.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<State>);

#[derive(Debug, Default)]
struct State {
    journal_problem: Mutex<Option<String>>,
    connected: AtomicBool,
    paused: AtomicBool,
    draining: AtomicBool,
    slots: AtomicUsize,
    stuck: AtomicUsize,
    counters: [AtomicU64; Counter::ALL.len()],
}

/// Why the worker is not healthy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The journal cannot be written. The worker accepts no job until it can.
    #[error("the journal cannot be written: {0}")]
    Journal(String),
    /// Every slot is held by a handler that has not ended after its job's deadline.
    #[error("all {0} slots are held by handlers that did not end after their deadline")]
    AllSlotsStuck(usize),
}

/// An event that the worker counts. The count starts at 0 with the process and never decreases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// Jobs that arrived for the first time.
    Received,
    /// Deliveries of a job that the journal already held.
    Redelivered,
    /// Messages that are not jobs.
    Invalid,
    /// Handlers started.
    Started,
    /// Attempts that share the run of an earlier attempt.
    Joined,
    /// Jobs answered with a remembered result instead of a run.
    Remembered,
    /// Jobs answered with a result.
    Succeeded,
    /// Jobs answered with a failure.
    Failed,
    /// Jobs answered with their cancellation.
    Cancelled,
    /// Answers that the broker acknowledged.
    Sent,
    /// Publishes of answers that the broker refused.
    Refused,
    /// Requests to the journal.
    JournalRequests,
    /// Transactions of the journal. Each costs one sync, however many requests it holds.
    JournalCommits,
    /// Transactions of the journal that failed and were repeated later.
    JournalFailures,
    /// How long the transactions of the journal took, in microseconds.
    JournalMicroseconds,
}

impl Counter {
    /// Every counter, in the order of declaration.
    pub const ALL: [Self; 15] = [
        Self::Received,
        Self::Redelivered,
        Self::Invalid,
        Self::Started,
        Self::Joined,
        Self::Remembered,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Sent,
        Self::Refused,
        Self::JournalRequests,
        Self::JournalCommits,
        Self::JournalFailures,
        Self::JournalMicroseconds,
    ];
}

impl Health {
    /// A healthy worker that has done nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything that is wrong at the moment; empty for a healthy worker.
    pub fn problems(&self) -> Vec<Problem> {
        let journal = self.journal_problem().clone().map(Problem::Journal);
        let (stuck, slots) = (self.stuck(), self.slots());
        let all_stuck = (slots > 0 && stuck >= slots).then_some(Problem::AllSlotsStuck(slots));

        journal.into_iter().chain(all_stuck).collect()
    }

    /// Why the worker takes no new jobs at the moment; empty while it takes them.
    pub fn reasons_not_ready(&self) -> Vec<String> {
        let states = [
            (!self.is_connected(), "the worker is not connected to the broker"),
            (self.is_paused(), "the worker is paused"),
            (self.is_draining(), "the worker is stopping"),
        ];
        let states = states.into_iter().filter(|(applies, _)| *applies).map(|(_, reason)| reason.to_owned());

        self.problems().iter().map(ToString::to_string).chain(states).collect()
    }

    /// Whether the broker has accepted the current connection.
    pub fn is_connected(&self) -> bool {
        self.0.connected.load(Ordering::Relaxed)
    }

    /// Whether an operator has paused the worker.
    pub fn is_paused(&self) -> bool {
        self.0.paused.load(Ordering::Relaxed)
    }

    /// Whether the worker is about to end.
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }

    /// How many jobs run at a time.
    pub fn slots(&self) -> usize {
        self.0.slots.load(Ordering::Relaxed)
    }

    /// How many slots are held by handlers that have not ended after their deadline.
    pub fn stuck(&self) -> usize {
        self.0.stuck.load(Ordering::Relaxed)
    }

    /// How often the event has occurred since the process started.
    pub fn count(&self, counter: Counter) -> u64 {
        self.0.counters[counter as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, counter: Counter, events: u64) {
        self.0.counters[counter as usize].fetch_add(events, Ordering::Relaxed);
    }

    pub(crate) fn set_slots(&self, slots: usize) {
        self.0.slots.store(slots, Ordering::Relaxed);
    }

    pub(crate) fn set_stuck(&self, stuck: usize) {
        self.0.stuck.store(stuck, Ordering::Relaxed);
    }

    pub(crate) fn set_connected(&self, connected: bool) {
        self.0.connected.store(connected, Ordering::Relaxed);
    }

    pub(crate) fn set_paused(&self, paused: bool) {
        self.0.paused.store(paused, Ordering::Relaxed);
    }

    pub(crate) fn set_draining(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    /// Notes the journal's state; returns whether it changed from working to failing or back.
    pub(crate) fn set_journal_problem(&self, problem: Option<String>) -> bool {
        let mut current = self.journal_problem();
        let changed = current.is_some() != problem.is_some();
        *current = problem;
        changed
    }

    fn journal_problem(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.0.journal_problem.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_with_a_problem_is_not_ready_and_says_why() {
        let health = Health::new();
        health.set_connected(true);
        assert!(health.reasons_not_ready().is_empty());

        health.set_slots(2);
        health.set_stuck(1);
        assert!(health.reasons_not_ready().is_empty(), "one slot is left");
        health.set_stuck(2);
        assert_eq!(health.problems(), [Problem::AllSlotsStuck(2)]);

        assert!(health.set_journal_problem(Some("disk full".into())));
        assert!(!health.set_journal_problem(Some("still full".into())));
        assert_eq!(health.problems()[0], Problem::Journal("still full".into()));
        assert_eq!(health.reasons_not_ready().len(), 2);
    }

    #[test]
    fn a_paused_stopping_or_disconnected_worker_is_healthy_but_not_ready() {
        let health = Health::new();
        assert_eq!(health.reasons_not_ready(), ["the worker is not connected to the broker"]);
        health.set_connected(true);
        health.set_paused(true);
        assert_eq!(health.reasons_not_ready(), ["the worker is paused"]);
        health.set_paused(false);
        health.set_draining();
        assert_eq!(health.reasons_not_ready(), ["the worker is stopping"]);
        assert_eq!(health.problems(), []);
    }

    #[test]
    fn each_counter_has_its_own_place() {
        let health = Health::new();
        for (events, counter) in (1..).zip(Counter::ALL) {
            health.add(counter, events);
        }
        for (events, counter) in (1..).zip(Counter::ALL) {
            assert_eq!(health.count(counter), events, "{counter:?}");
        }
    }
}
