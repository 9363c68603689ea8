//! The engine: takes messages from the link while it may, and lets the worker end in good order. It owns the
//! phases; admission, execution and delivery do the work.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use postern_types::Topic;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::Admission;
use crate::cancels::Cancels;
use crate::claim::{ClaimCheck, ClaimOptions};
use crate::control::Control;
use crate::delivery::Delivery;
use crate::execution::{Execution, STOP_GRACE};
use crate::handler::Registry;
use crate::health::Health;
use crate::intake::{Intake, NoMore};
use crate::journal::{Cancel, Journal, Recovered, SpooledEntry};
use crate::link::{Inbox, Incoming, Link};
use crate::pause::Pause;
use crate::presence::{About, Publisher};
use crate::reporting::Reporting;
use crate::reports::Reports;
use crate::runs::Runs;
use crate::slots::Slots;
use crate::threads::Threads;

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
    /// The topic that the progress of jobs is published on.
    pub progress_topic: Topic,
    /// What the worker says of itself.
    pub about: About,
    /// How many handlers run at a time.
    pub concurrency: usize,
    /// How many jobs the worker holds at most. The broker keeps the rest.
    pub max_jobs: usize,
    /// How long running jobs may continue after a stop was requested.
    pub drain: Duration,
    /// The threads that the handlers run on.
    pub threads: Threads,
    /// The directory in which a concurrency that a command sets is remembered.
    pub state_dir: PathBuf,
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
        recovered: Recovered,
        stop: CancellationToken,
    ) -> Stopped {
        let (drain, journal, abort) = (self.drain, self.journal.clone(), CancellationToken::new());
        let Recovered { cancels, jobs, answers, spooled } = recovered;
        let parts = self.start(cancels, spooled, &stop, &abort);
        let Parts { admission, control, reporting, presence } = &parts;
        admission.recover(jobs, answers);

        let work = async {
            let stopped = receive(inbox.jobs, admission, &stop).await;
            admission.health.set_draining();
            stop.cancel();
            end_jobs(&admission.jobs, drain, &abort).await;
            stopped
        };
        let stopped = tokio::select! {
            stopped = work => stopped,
            // Also while the worker drains: a job that still runs can be cancelled, and its progress is seen.
            never = beside(control.run(inbox.control), reporting.run(), presence.run()) => match never {},
        };

        reporting.end().await;
        presence.end().await;
        admission.delivery.link.close().await;
        journal.close().await;
        stopped
    }

    fn start(
        self,
        cancels: Vec<Cancel>,
        spooled: Vec<SpooledEntry>,
        stop: &CancellationToken,
        abort: &CancellationToken,
    ) -> Parts<L> {
        self.health.set_slots(self.concurrency);
        let (runs, reports) = (Arc::new(Runs::default()), Arc::new(Reports::default()));
        let presence = Publisher {
            about: self.about,
            link: self.link.clone(),
            health: self.health.clone(),
            runs: Arc::clone(&runs),
        };
        let reporting = Reporting {
            link: self.link.clone(),
            topic: self.progress_topic,
            reports: Arc::clone(&reports),
            journal: self.journal.clone(),
            health: self.health.clone(),
        };
        let delivery = Arc::new(Delivery {
            link: self.link,
            topic: self.answer_topic,
            journal: self.journal.clone(),
            health: self.health.clone(),
            stop: stop.clone(),
        });
        let claims = ClaimCheck::new(self.claims, self.journal.clone(), Arc::clone(&delivery), spooled);
        let execution = Arc::new(Execution {
            registry: self.registry,
            default_kind: self.default_kind,
            slots: Slots::new(self.concurrency),
            threads: self.threads,
            runs,
            cancels: Cancels::new(cancels),
            reports,
            stuck: watch::Sender::new(0),
            journal: self.journal.clone(),
            delivery: Arc::clone(&delivery),
            pause: self.pause,
            claims: Arc::new(claims),
            health: self.health.clone(),
            stop: stop.clone(),
            abort: abort.clone(),
        });

        let control = Control {
            execution: Arc::clone(&execution),
            journal: self.journal.clone(),
            state_dir: self.state_dir,
        };
        let admission = Admission {
            journal: self.journal,
            execution,
            delivery,
            health: self.health,
            room: Arc::new(Semaphore::new(self.max_jobs)),
            jobs: TaskTracker::new(),
        };
        Parts { admission, control, reporting, presence }
    }
}

/// What works while the engine runs.
struct Parts<L> {
    admission: Admission<L>,
    control: Control<L>,
    reporting: Reporting<L>,
    presence: Publisher<L>,
}

/// Runs three parts that end only with the link, if at all.
async fn beside(
    one: impl Future<Output = ()>,
    other: impl Future<Output = ()>,
    third: impl Future<Output = ()>,
) -> Infallible {
    tokio::join!(one, other, third);
    std::future::pending().await
}

/// Takes jobs until the worker must end.
async fn receive<L: Link>(
    incoming: mpsc::Receiver<Incoming<L::Receipt>>,
    admission: &Admission<L>,
    stop: &CancellationToken,
) -> Stopped {
    let mut intake = Intake::<L>::new(incoming);
    // A batch that is cut off here was not acknowledged: the broker delivers it again.
    tokio::select! {
        biased;
        () = stop.cancelled() => Stopped::Requested,
        () = admission.execution.all_stuck() => Stopped::AllSlotsStuck(admission.execution.slots.total()),
        no_more = intake.run(admission) => match no_more {
            NoMore::SubscriptionRefused(reason) => Stopped::SubscriptionRefused(reason),
            NoMore::LinkEnded => Stopped::LinkEnded,
        },
    }
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
