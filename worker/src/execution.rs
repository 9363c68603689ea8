//! Execution: slots, policies, deadlines, heartbeats, and the handlers' threads.
//!
//! Each attempt of a job is answered by its own task, and each run of a handler is a task too. An attempt waits
//! for the run of its key, for its own deadline and for the worker's end, whichever comes first. The run goes on
//! until its handler has really ended, and holds its slot until then: a handler that cannot be stopped never
//! shares its slot with another one.

mod conclusion;
mod heartbeats;
mod stuck;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use postern_types::{JobMessage, TaskFailure};
use serde_json::value::RawValue;
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::answers::{self, Outcome};
use crate::cancels::Cancels;
use crate::claim::files::{JobFiles, JobInput};
use crate::claim::{ClaimCheck, Produced};
use crate::delivery::{Delivery, wait_until};
use crate::handler::{JobContext, Policy, Registry, idempotency_key};
use crate::health::{Counter, Health};
use crate::journal::{Answer, Finished, Journal};
use crate::link::Link;
use crate::pause::Pause;
use crate::reports::{Reporter, Reports};
use crate::runs::{RunKey, Runs, Stage, Started};
use crate::slots::{Slot, Slots};
use crate::threads::Threads;

/// How long a handler may take to end after it was told to stop.
pub(crate) const STOP_GRACE: Duration = Duration::from_secs(5);
/// How long an asynchronous handler may take to reach its next await after it was aborted.
const ABORT_GRACE: Duration = Duration::from_secs(1);
/// How long a job waits at most for cancellations that may be on their way.
const UNSETTLED_LIMIT: Duration = Duration::from_secs(10);

/// What a handler has returned.
type Returned = Result<Box<RawValue>, TaskFailure>;

/// Runs jobs and answers them.
pub(crate) struct Execution<L> {
    pub(crate) registry: Registry,
    /// The kind of a job that does not name one.
    pub(crate) default_kind: String,
    pub(crate) slots: Slots,
    pub(crate) threads: Threads,
    pub(crate) runs: Arc<Runs>,
    /// The jobs that are cancelled.
    pub(crate) cancels: Cancels,
    /// What the handlers report.
    pub(crate) reports: Arc<Reports>,
    /// How many slots are held by handlers that do not end.
    pub(crate) stuck: watch::Sender<usize>,
    pub(crate) journal: Journal,
    pub(crate) delivery: Arc<Delivery<L>>,
    pub(crate) pause: Pause,
    /// Moves large inputs and results.
    pub(crate) claims: Arc<ClaimCheck<L>>,
    pub(crate) health: Health,
    /// No handler is started any more.
    pub(crate) stop: CancellationToken,
    /// Running handlers are told to stop.
    pub(crate) abort: CancellationToken,
}

impl<L: Link> Execution<L> {
    /// Serves one attempt, from its admission until the broker has its answer. `interrupted` means that a handler
    /// of this attempt was running when an earlier process died.
    pub(crate) async fn serve(self: Arc<Self>, job: Arc<JobMessage>, interrupted: bool) {
        let key = self.run_key(&job);
        let answer = tokio::select! {
            answer = self.answer(&key, &job, interrupted) => answer,
            never = self.heartbeats(&key, &job) => match never {},
        };
        self.delivery.deliver(answer, job.trace_id()).await;
    }

    /// What identifies the job's run.
    pub(crate) fn run_key(&self, job: &JobMessage) -> RunKey {
        let kind = job.kind.as_ref().unwrap_or(&self.default_kind).clone();
        RunKey { kind, key: idempotency_key(job) }
    }

    /// The attempt's answer, once it is in the outbox.
    async fn answer(self: &Arc<Self>, key: &RunKey, job: &Arc<JobMessage>, interrupted: bool) -> Answer {
        if let Some(reason) = self.cancels.reason(&job.id()) {
            return self.fail(job, answers::cancelled(&reason)).await;
        }
        // A handler whose result is on the disk was not interrupted.
        if interrupted && self.registry.policy(&key.kind) == Policy::Once && !self.claims.holds(key) {
            return self.fail(job, answers::interrupted(&key.kind)).await;
        }
        if has_passed(job.deadline) {
            return self.fail(job, answers::deadline_exceeded(job)).await;
        }

        let mut answered = self.join(key, job).await;
        let failure = tokio::select! {
            biased;
            answer = &mut answered => return self.answer_of_run(job, answer).await,
            failure = self.cancelled(key, job) => failure,
            () = self.expired(key, job) => answers::deadline_exceeded(job),
            () = self.aborted() => answers::shutting_down("while the job ran"),
        };

        if self.runs.withdraw(key, job) {
            return self.fail(job, failure).await;
        }
        self.answer_of_run(job, answered.await).await
    }

    /// Joins the run of this key, and starts it if there is none.
    async fn join(self: &Arc<Self>, key: &RunKey, job: &Arc<JobMessage>) -> oneshot::Receiver<Answer> {
        let joined = self.runs.join(key, job);
        match joined.stage {
            Stage::New => drop(tokio::spawn(Arc::clone(self).run(key.clone()))),
            Stage::Waiting => {}
            // After a crash this attempt ends with the run that it has joined.
            Stage::Started => self.note_start(key).await,
        }

        if joined.stage != Stage::New {
            self.health.add(Counter::Joined, 1);
            tracing::info!(
                job_id = %job.id(), trace_id = job.trace_id(),
                "an earlier attempt with the same key is here: both share its run"
            );
        }
        joined.answered
    }

    /// The answer that the run made, or the failure of an attempt whose run did not start.
    async fn answer_of_run(
        &self,
        job: &Arc<JobMessage>,
        answer: Result<Answer, oneshot::error::RecvError>,
    ) -> Answer {
        match answer {
            Ok(answer) => answer,
            Err(_) => self.fail(job, answers::shutting_down("before the job started")).await,
        }
    }

    /// Waits until the attempt must be answered without its run: at its deadline, and some seconds later if the
    /// handler has started and may still end by itself.
    async fn expired(&self, key: &RunKey, job: &JobMessage) {
        wait_until(job.deadline).await;
        if self.runs.is_started(key) {
            sleep(STOP_GRACE + ABORT_GRACE * 2).await;
        }
    }

    /// Waits until the job is cancelled. If a handler runs for this attempt alone, it is told, and may still end by itself
    /// for some seconds.
    async fn cancelled(&self, key: &RunKey, job: &Arc<JobMessage>) -> TaskFailure {
        let reason = self.cancels.wait(&job.id()).await;
        tracing::info!(job_id = %job.id(), trace_id = job.trace_id(), reason, "the job is cancelled");

        if self.runs.cancel(key, job, &reason) {
            sleep(STOP_GRACE + ABORT_GRACE * 2).await;
        }
        answers::cancelled(&reason)
    }

    /// Waits until the attempt must be answered because the worker ends, whatever its handler does.
    async fn aborted(&self) {
        self.abort.cancelled().await;
        sleep(STOP_GRACE + ABORT_GRACE * 2).await;
    }

    async fn fail(&self, job: &Arc<JobMessage>, failure: TaskFailure) -> Answer {
        let outcome = Err(failure);
        self.log(job, &outcome);
        let finished = vec![finished(job, &outcome)];
        match self.journal.finish(finished, None).await.pop() {
            Some(answer) => answer,
            // One answer for each job is the journal's contract.
            None => std::future::pending().await,
        }
    }

    /// Runs a handler and answers all attempts that wait for it.
    async fn run(self: Arc<Self>, key: RunKey) {
        let Some(slot) = self.slot().await else { return self.runs.abandon(&key) };
        let Some(started) = self.runs.begin(&key) else { return };

        let produced = self.produce(&key, started).await;
        drop(slot);
        self.conclude(&key, &produced).await;
    }

    /// Runs the handler, unless its result is on the disk already, and keeps what it has returned or written.
    async fn produce(&self, key: &RunKey, started: Started) -> Result<Produced, TaskFailure> {
        if let Some(held) = self.claims.held(key) {
            tracing::info!(job_id = %started.job.id(), kind = key.kind, "the result of an earlier run is on the disk");
            return Ok(held);
        }

        let (job, files) = (Arc::clone(&started.job), self.claims.files());
        let returned = self.execute(key, started, &files).await;
        self.claims.forget_input(&job);
        self.claims.keep(key, &job, &files, returned).await
    }

    /// Waits for a slot, for the end of a pause, and for cancellations that the broker has kept. `None` if the worker stops
    /// first.
    async fn slot(&self) -> Option<Slot<'_>> {
        let slot = async {
            // A worker without a connection works on what it has.
            let mut unsettled = self.delivery.link.unsettled();
            let _ = timeout(UNSETTLED_LIMIT, unsettled.wait_for(|unsettled| !unsettled)).await;
            loop {
                self.pause.resumed().await;
                let slot = self.slots.acquire().await?;
                if !self.pause.is_paused() {
                    return Some(slot);
                }
            }
        };
        tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            slot = slot => slot,
        }
    }

    /// Runs the handler until it ends, or until nobody waits for it any more and it has ended after all.
    async fn execute(&self, key: &RunKey, started: Started, files: &JobFiles) -> Returned {
        let Started { job, deadline, cancelled: mut run_cancelled } = started;
        let policy = self.registry.policy(&key.kind);
        if policy == Policy::ExactlyOnce
            && let Some(result) = self.remembered(key).await
        {
            return Ok(result);
        }

        let input = self.input(&job, deadline.clone(), run_cancelled.clone()).await?;
        if policy == Policy::Once {
            self.note_start(key).await;
        }
        // The journal and the download of the input may have taken their time.
        if has_passed(*deadline.borrow()) {
            return Err(answers::deadline_exceeded(&job));
        }
        if let Some(reason) = &*run_cancelled.borrow() {
            return Err(answers::cancelled(reason));
        }

        let cancelled = CancellationToken::new();
        let context = JobContext::new(
            Arc::clone(&job),
            input,
            files.clone(),
            cancelled.clone(),
            self.reporter(key, &job),
        );
        let run = self.registry.start(&key.kind, context)?;
        self.health.add(Counter::Started, 1);
        let mut handler = self.threads.handle().spawn(run);
        let cut_off = tokio::select! {
            ended = &mut handler => return ended.unwrap_or_else(|_| Err(answers::panicked(&key.kind))),
            () = last_deadline(deadline) => answers::deadline_exceeded(&job),
            reason = reason_of(&mut run_cancelled) => answers::cancelled(&reason),
            () = self.abort.cancelled() => answers::shutting_down("while the job ran"),
        };

        cancelled.cancel();
        let ended = match timeout(STOP_GRACE, &mut handler).await {
            Ok(ended) => ended,
            Err(_) => self.abort_handler(key, &job, handler).await,
        };
        match ended {
            // The handler had a result after all.
            Ok(Ok(result)) => Ok(result),
            _ => Err(cut_off),
        }
    }

    /// Where the handler's reports go: to all attempts that share its run. The journal keeps the progress of jobs that may
    /// run again after a crash.
    fn reporter(&self, key: &RunKey, job: &JobMessage) -> Reporter {
        let runs_again = self.registry.policy(&key.kind) != Policy::Once;
        let reporter = Reporter::new(Arc::clone(&self.reports), job.id(), runs_again);
        reporter.of_run(Arc::clone(&self.runs), key.clone())
    }

    /// The job's input, once it is here.
    async fn input(
        &self,
        job: &JobMessage,
        deadline: watch::Receiver<Option<Timestamp>>,
        mut cancelled: watch::Receiver<Option<String>>,
    ) -> Result<JobInput, TaskFailure> {
        tokio::select! {
            biased;
            input = self.claims.input(job) => input,
            () = last_deadline(deadline) => Err(answers::deadline_exceeded(job)),
            reason = reason_of(&mut cancelled) => Err(answers::cancelled(&reason)),
            () = self.abort.cancelled() => Err(answers::shutting_down("before the job started")),
        }
    }

    async fn note_start(&self, key: &RunKey) {
        self.journal.start(key.kind.clone(), key.key.clone()).await;
    }

    /// The result of an earlier run with this key.
    async fn remembered(&self, key: &RunKey) -> Option<Box<RawValue>> {
        let result = self.journal.recall(key.kind.clone(), key.key.clone()).await?;
        let result = RawValue::from_string(result).ok()?;
        self.health.add(Counter::Remembered, 1);
        tracing::info!(kind = key.kind, "the result of an earlier attempt is remembered");
        Some(result)
    }
}

fn finished(job: &JobMessage, outcome: &Outcome) -> Finished {
    let payload = answers::answer(job, outcome);
    Finished { job_id: job.id().to_string(), payload, deadline: job.deadline }
}

/// Waits until the latest deadline of a run's attempts, which moves when another attempt joins.
async fn last_deadline(mut deadline: watch::Receiver<Option<Timestamp>>) {
    loop {
        let latest = *deadline.borrow_and_update();
        tokio::select! {
            () = wait_until(latest) => return,
            changed = deadline.changed() => {
                if changed.is_err() {
                    return wait_until(latest).await;
                }
            }
        }
    }
}

/// Waits until a run is cancelled.
async fn reason_of(cancelled: &mut watch::Receiver<Option<String>>) -> String {
    let reason = cancelled.wait_for(Option::is_some).await.map(|reason| reason.clone());
    match reason {
        Ok(reason) => reason.unwrap_or_default(),
        // The run has ended.
        Err(_) => std::future::pending().await,
    }
}

fn has_passed(deadline: Option<Timestamp>) -> bool {
    deadline.is_some_and(|deadline| deadline <= Timestamp::now())
}
