//! The engine: takes messages from the link while it may, and lets the worker end in good order. It owns the
//! phases; admission, execution and delivery do the work.

use std::sync::Arc;
use std::time::Duration;

use postern_types::Topic;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::Admission;
use crate::claim::{ClaimCheck, ClaimOptions};
use crate::control::Control;
use crate::delivery::Delivery;
use crate::execution::{Execution, STOP_GRACE};
use crate::grants::Grants;
use crate::handler::Registry;
use crate::health::Health;
use crate::journal::{Journal, Recovered, SpooledEntry};
use crate::link::{Inbox, Incoming, Link};
use crate::pause::Pause;
use crate::runs::Runs;

/// A worker between its link and its journal.
pub struct Engine<L> {
    /// The connection to the broker.
    pub link: L,
    /// The handlers.
    pub registry: Registry,
    /// The kind of a job that does not name one.
    pub default_kind: String,
    /// The topic that answers are published on.
    pub answer_topic: Topic,
    /// How many handlers run at a time.
    pub concurrency: usize,
    /// How many jobs the worker holds at most. The broker keeps the rest.
    pub max_jobs: usize,
    /// How long running jobs may continue after a stop was requested.
    pub drain: Duration,
    /// The runtime that the handlers run on. It has threads of its own, so that a handler that blocks stops no
    /// heartbeat.
    pub handlers: Handle,
    /// Keeps jobs and answers across restarts of the process.
    pub journal: Journal,
    /// Moves large inputs and results.
    pub claims: ClaimOptions,
    /// Whether new jobs may start.
    pub pause: Pause,
    /// The worker's state and counters, which the engine updates.
    pub health: Health,
}

/// Why a worker has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stopped {
    /// A signal or the program that runs the engine requested it.
    Requested,
    /// The broker does not let the worker subscribe. The text explains why.
    SubscriptionRefused(String),
    /// The link has ended although nobody requested it: no message can arrive.
    LinkEnded,
    /// All slots are held by handlers that do not end. Only a new process helps.
    AllSlotsStuck(usize),
}

impl<L: Link> Engine<L> {
    /// Continues what `recovered` holds, and takes jobs until `stop` or until the worker cannot go on. Then gives
    /// running jobs the drain time to end.
    pub async fn run(
        self,
        inbox: Inbox<L::Receipt>,
        mut recovered: Recovered,
        stop: CancellationToken,
    ) -> Stopped {
        let (drain, journal, abort) = (self.drain, self.journal.clone(), CancellationToken::new());
        let spooled = std::mem::take(&mut recovered.spooled);
        let (admission, control) = self.start(spooled, &stop, &abort);
        admission.recover(recovered);
        // Ends with the link. Until then it obeys also while the worker drains.
        tokio::spawn(async move { control.run(inbox.control).await });

        let mut jobs = inbox.jobs;
        let stopped = receive(&mut jobs, &admission, &stop).await;
        admission.health.set_draining();
        stop.cancel();
        end_jobs(&admission.jobs, drain, &abort).await;
        admission.delivery.link.close().await;
        journal.close().await;
        stopped
    }

    fn start(
        self,
        spooled: Vec<SpooledEntry>,
        stop: &CancellationToken,
        abort: &CancellationToken,
    ) -> (Admission<L>, Control<L>) {
        self.health.set_slots(self.concurrency);
        let delivery = Arc::new(Delivery {
            link: self.link,
            topic: self.answer_topic,
            journal: self.journal.clone(),
            health: self.health.clone(),
            stop: stop.clone(),
        });
        let grants = Arc::new(Grants::default());
        let control = Control {
            delivery: Arc::clone(&delivery),
            grants: Arc::clone(&grants),
            pause: self.pause.clone(),
        };
        let claims =
            ClaimCheck::new(self.claims, self.journal.clone(), Arc::clone(&delivery), grants, spooled);
        let execution = Arc::new(Execution {
            registry: self.registry,
            default_kind: self.default_kind,
            slots: Semaphore::new(self.concurrency),
            concurrency: self.concurrency,
            handlers: self.handlers,
            runs: Runs::default(),
            stuck: watch::Sender::new(0),
            journal: self.journal.clone(),
            delivery: Arc::clone(&delivery),
            pause: self.pause,
            claims: Arc::new(claims),
            health: self.health.clone(),
            stop: stop.clone(),
            abort: abort.clone(),
        });

        let admission = Admission {
            journal: self.journal,
            execution,
            delivery,
            health: self.health,
            room: Arc::new(Semaphore::new(self.max_jobs)),
            jobs: TaskTracker::new(),
        };
        (admission, control)
    }
}

/// Takes messages until the worker must end.
async fn receive<L: Link>(
    incoming: &mut mpsc::Receiver<Incoming<L::Receipt>>,
    admission: &Admission<L>,
    stop: &CancellationToken,
) -> Stopped {
    let all_stuck = admission.execution.all_stuck();
    tokio::pin!(all_stuck);

    loop {
        // A batch that is cut off here was not acknowledged: the broker delivers it again.
        let received = tokio::select! {
            biased;
            () = stop.cancelled() => return Stopped::Requested,
            () = &mut all_stuck => return Stopped::AllSlotsStuck(admission.execution.concurrency),
            received = receive_batch(incoming, admission) => received,
        };
        if let Some(stopped) = received {
            return stopped;
        }
    }
}

/// Waits until the worker may take messages, and admits those that are there. Returns a reason to end.
async fn receive_batch<L: Link>(
    incoming: &mut mpsc::Receiver<Incoming<L::Receipt>>,
    admission: &Admission<L>,
) -> Option<Stopped> {
    let pause = &admission.execution.pause;
    pause.resumed().await;
    let room = admission.wait_for_room().await;

    let mut batch = Vec::new();
    let received = tokio::select! {
        received = incoming.recv_many(&mut batch, room) => received,
        () = pause.paused() => return None,
    };
    if received == 0 {
        return Some(Stopped::LinkEnded);
    }

    let (mut messages, mut refused) = (Vec::new(), None);
    for received in batch {
        match received {
            Incoming::Message { payload, receipt } => messages.push((payload, receipt)),
            Incoming::SubscriptionRefused(reason) => refused = Some(Stopped::SubscriptionRefused(reason)),
        }
    }
    if !messages.is_empty() {
        admission.receive(messages).await;
    }
    refused
}

/// Lets running jobs end within the drain time, and tells them to stop afterwards.
async fn end_jobs(jobs: &TaskTracker, drain: Duration, abort: &CancellationToken) {
    jobs.close();
    tracing::info!(jobs = jobs.len(), "stopping: no job starts any more, running jobs may end");
    if timeout(drain, jobs.wait()).await.is_ok() {
        return;
    }

    tracing::warn!(jobs = jobs.len(), "the drain time is over: running handlers are told to stop");
    abort.cancel();
    if timeout(STOP_GRACE * 2, jobs.wait()).await.is_err() {
        tracing::error!(jobs = jobs.len(), "jobs or answers are left: the next process continues with them");
    }
}

#[cfg(test)]
mod tests;
