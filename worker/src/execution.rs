//! Execution: slots, policies, deadlines, heartbeats, and the handlers' threads.
//!
//! Each attempt of a job is answered by its own task, and each run of a handler is a task too. An attempt waits
//! for the run of its key, for its own deadline and for the worker's end, whichever comes first. The run goes on
//! until its handler has really ended, and holds its slot until then: a handler that cannot be stopped never
//! shares its slot with another one.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use postern_types::{AnswerMessage, JobMessage, TaskFailure};
use serde_json::value::RawValue;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit, oneshot, watch};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{MissedTickBehavior, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::answers::{self, Outcome};
use crate::claim::{ClaimCheck, JobFiles, JobInput, Produced, UPLOAD_FAILED};
use crate::delivery::{Delivery, wait_until};
use crate::handler::{JobContext, Policy, Registry, idempotency_key};
use crate::health::{Counter, Health};
use crate::journal::{Answer, Finished, Journal, Memory};
use crate::link::{Link, Priority};
use crate::pause::Pause;
use crate::runs::{Attempt, RunKey, Runs, Stage, Started};

/// How long a handler may take to end after it was told to stop.
pub(crate) const STOP_GRACE: Duration = Duration::from_secs(5);
/// How long an asynchronous handler may take to reach its next await after it was aborted.
const ABORT_GRACE: Duration = Duration::from_secs(1);
/// When the notice `ACCEPTED` is sent. Most jobs have ended by then and need none.
const ACCEPTED_AFTER: Duration = Duration::from_secs(1);
/// How long all slots may be stuck before the process must be restarted.
const STUCK_LIMIT: Duration = Duration::from_mins(1);
/// The largest result that is remembered: what fits into an answer.
const MEMORY_BYTES: usize = postern_types::limits::IOT_PAYLOAD_BYTES;

/// What a handler has returned.
type Returned = Result<Box<RawValue>, TaskFailure>;

/// Runs jobs and answers them.
pub(crate) struct Execution<L> {
    pub(crate) registry: Registry,
    /// The kind of a job that does not name one.
    pub(crate) default_kind: String,
    pub(crate) slots: Semaphore,
    pub(crate) concurrency: usize,
    /// The runtime of the handlers: threads of their own, so that a handler may block.
    pub(crate) handlers: Handle,
    pub(crate) runs: Runs,
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

    /// Waits until the attempt must be answered because the worker ends, whatever its handler does.
    async fn aborted(&self) {
        self.abort.cancelled().await;
        sleep(STOP_GRACE + ABORT_GRACE * 2).await;
    }

    async fn fail(&self, job: &Arc<JobMessage>, failure: TaskFailure) -> Answer {
        let outcome = Err(failure);
        self.log(job, &outcome);
        let finished = vec![finished_with(job, &outcome)];
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

    /// Waits for a slot and for the end of a pause. `None` if the worker stops first.
    async fn slot(&self) -> Option<SemaphorePermit<'_>> {
        let slot = async {
            loop {
                self.pause.resumed().await;
                let slot = self.slots.acquire().await.ok()?;
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
        let Started { job, deadline } = started;
        let policy = self.registry.policy(&key.kind);
        if policy == Policy::ExactlyOnce
            && let Some(result) = self.remembered(key).await
        {
            return Ok(result);
        }

        let input = self.input(&job, deadline.clone()).await?;
        if policy == Policy::Once {
            self.note_start(key).await;
        }
        // The journal may have taken its time.
        if has_passed(*deadline.borrow()) {
            return Err(answers::deadline_exceeded(&job));
        }

        let cancelled = CancellationToken::new();
        let context = JobContext::new(Arc::clone(&job), input, files.clone(), cancelled.clone());
        let run = self.registry.start(&key.kind, context)?;
        self.health.add(Counter::Started, 1);
        let mut handler = self.handlers.spawn(run);
        let cut_off = tokio::select! {
            ended = &mut handler => return ended.unwrap_or_else(|_| Err(answers::panicked(&key.kind))),
            () = last_deadline(deadline) => answers::deadline_exceeded(&job),
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

    /// The job's input, once it is here.
    async fn input(
        &self,
        job: &JobMessage,
        deadline: watch::Receiver<Option<Timestamp>>,
    ) -> Result<JobInput, TaskFailure> {
        tokio::select! {
            biased;
            input = self.claims.input(job) => input,
            () = last_deadline(deadline) => Err(answers::deadline_exceeded(job)),
            () = self.abort.cancelled() => Err(answers::shutting_down("before the job started")),
        }
    }

    /// Ends a handler that did not stop when it was told to, and waits until it has ended. A handler that blocks
    /// its thread cannot be ended from outside: it counts as stuck until it returns.
    async fn abort_handler(
        &self,
        key: &RunKey,
        job: &JobMessage,
        mut handler: JoinHandle<Returned>,
    ) -> Result<Returned, JoinError> {
        handler.abort();
        if let Ok(ended) = timeout(ABORT_GRACE, &mut handler).await {
            return ended;
        }

        self.runs.set_stuck(key);
        let stuck = self.count_stuck(|stuck| stuck + 1);
        tracing::error!(
            job_id = %job.id(), trace_id = job.trace_id(), kind = key.kind, stuck, slots = self.concurrency,
            "a handler did not end after its job's end: it keeps its slot"
        );
        let ended = handler.await;
        let stuck = self.count_stuck(|stuck| stuck - 1);
        tracing::warn!(
            job_id = %job.id(), trace_id = job.trace_id(), kind = key.kind, stuck,
            "a stuck handler has ended"
        );
        ended
    }

    fn count_stuck(&self, change: impl FnOnce(usize) -> usize) -> usize {
        self.stuck.send_modify(|stuck| *stuck = change(*stuck));
        let stuck = *self.stuck.borrow();
        self.health.set_stuck(stuck);
        stuck
    }

    /// Waits until all slots have been stuck for so long that only a restart helps.
    pub(crate) async fn all_stuck(&self) {
        let mut stuck = self.stuck.subscribe();
        loop {
            let all = |stuck: &usize| *stuck >= self.concurrency;
            if stuck.wait_for(all).await.is_err() {
                return std::future::pending().await;
            }
            if timeout(STUCK_LIMIT, stuck.wait_for(|stuck| !all(stuck))).await.is_err() {
                return;
            }
        }
    }

    /// Answers all attempts of a run, those that join meanwhile included, and removes the run.
    async fn conclude(&self, key: &RunKey, produced: &Result<Produced, TaskFailure>) {
        let mut memory = self.memory(key, produced);
        // The next attempt with this key may ask for the result.
        let mut remember = self.registry.policy(&key.kind) == Policy::ExactlyOnce;
        loop {
            let attempts = self.runs.take(key);
            if !attempts.is_empty() || memory.is_some() {
                remember |= self.answer_all(attempts, produced, memory.take()).await;
            } else if self.runs.end(key) {
                return self.claims.answered(key, remember);
            }
        }
    }

    /// Answers attempts. Returns whether one of them has failed although there is a result.
    async fn answer_all(
        &self,
        attempts: Vec<Attempt>,
        produced: &Result<Produced, TaskFailure>,
        memory: Option<Memory>,
    ) -> bool {
        let mut outcomes = Vec::with_capacity(attempts.len());
        for attempt in &attempts {
            outcomes.push(self.settle(&attempt.job, produced).await);
        }
        let finished = attempts.iter().zip(&outcomes);
        let finished = finished.map(|(attempt, outcome)| finished_with(&attempt.job, outcome)).collect();
        let answers = self.journal.finish(finished, memory).await;

        for ((attempt, outcome), answer) in attempts.into_iter().zip(&outcomes).zip(answers) {
            self.log(&attempt.job, outcome);
            // The attempt's task has ended only if the process ends: the answer stays in the outbox.
            let _ = attempt.answered.send(answer);
        }
        produced.is_ok() && outcomes.iter().any(may_upload_later)
    }

    /// The outcome of one attempt. A result that is a file is uploaded for as long as somebody waits for it. A worker that
    /// stops leaves the rest to the next process.
    async fn settle(&self, job: &JobMessage, produced: &Result<Produced, TaskFailure>) -> Outcome {
        tokio::select! {
            biased;
            outcome = self.claims.settle(job, produced) => outcome,
            () = wait_until(job.deadline) => Err(answers::deadline_exceeded(job)),
        }
    }

    fn log(&self, job: &JobMessage, outcome: &Outcome) {
        match outcome {
            Ok(_) => {
                self.health.add(Counter::Succeeded, 1);
                tracing::info!(job_id = %job.id(), trace_id = job.trace_id(), "job succeeded");
            }
            Err(failure) => {
                self.health.add(Counter::Failed, 1);
                tracing::warn!(job_id = %job.id(), trace_id = job.trace_id(), error = failure.error(), "job failed");
            }
        }
    }

    async fn note_start(&self, key: &RunKey) {
        self.journal.start(key.kind.clone(), key.key.clone()).await;
    }

    /// What the journal should remember of an outcome. Failures are not remembered: the next attempt is made to
    /// try again.
    fn memory(&self, key: &RunKey, produced: &Result<Produced, TaskFailure>) -> Option<Memory> {
        let exactly_once = self.registry.policy(&key.kind) == Policy::ExactlyOnce;
        let Ok(Produced::Value(result)) = produced else { return None };
        if !exactly_once || result.get().len() > MEMORY_BYTES {
            return None;
        }
        Some(Memory { kind: key.kind.clone(), key: key.key.clone(), result: result.get().to_owned() })
    }

    /// The result of an earlier run with this key.
    async fn remembered(&self, key: &RunKey) -> Option<Box<RawValue>> {
        let result = self.journal.recall(key.kind.clone(), key.key.clone()).await?;
        let result = RawValue::from_string(result).ok()?;
        self.health.add(Counter::Remembered, 1);
        tracing::info!(kind = key.kind, "the result of an earlier attempt is remembered");
        Some(result)
    }

    /// Sends `ACCEPTED` after a second, then a heartbeat every third of `HeartbeatSeconds`, until the deadline.
    /// Skipped for jobs without a `JobId`: the AWS sample's functions would take these messages for results.
    async fn heartbeats(&self, key: &RunKey, job: &JobMessage) -> Infallible {
        if job.job_id.is_some() {
            tokio::select! {
                () = self.send_heartbeats(key, job) => {}
                () = wait_until(job.deadline) => {}
            }
        }
        std::future::pending().await
    }

    async fn send_heartbeats(&self, key: &RunKey, job: &JobMessage) {
        let every = job.heartbeat_seconds.map(|seconds| Duration::from_secs(seconds.into()) / 3);
        sleep(every.map_or(ACCEPTED_AFTER, |every| every.min(ACCEPTED_AFTER))).await;
        self.delivery.notify(AnswerMessage::accepted(job), Priority::Accepted).await;

        let Some(every) = every else { return };
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            if self.runs.is_stuck(key) {
                return;
            }
            // One at a time: over a broken connection heartbeats do not pile up.
            self.delivery.notify(AnswerMessage::heartbeat(job), Priority::Heartbeat).await;
        }
    }
}

/// Whether another attempt can deliver the result that is on the disk.
fn may_upload_later(outcome: &Outcome) -> bool {
    let later = [UPLOAD_FAILED, "Worker.DeadlineExceeded"];
    outcome.as_ref().is_err_and(|failure| later.contains(&failure.error()))
}

fn finished_with(job: &JobMessage, outcome: &Outcome) -> Finished {
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

fn has_passed(deadline: Option<Timestamp>) -> bool {
    deadline.is_some_and(|deadline| deadline <= Timestamp::now())
}
