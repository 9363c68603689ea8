use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use jiff::Timestamp;
use postern_types::limits::IOT_PAYLOAD_BYTES;
use postern_types::{AnswerMessage, InvalidJob, JobMessage, TaskFailure, Topic};
use serde_json::json;
use serde_json::value::RawValue;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{MissedTickBehavior, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backoff::Backoff;
use crate::ledger::{Admission, Ledger};
use crate::link::{Incoming, Link, Priority, PublishError};
use crate::{JobContext, Registry};

/// Runs jobs: from a message on the worker's topic to the broker's PUBACK for its answer.
pub struct Engine<L> {
    /// The connection.
    pub link: L,
    /// Who runs what.
    pub registry: Registry,
    /// The kind of a job that names none.
    pub default_kind: String,
    /// Where answers go.
    pub answer_topic: Topic,
    /// How many handlers run at a time.
    pub concurrency: usize,
    /// How long running jobs may go on after a stop was asked for.
    pub drain: Duration,
    /// Where handlers run: threads of their own, so that one that blocks stops no heartbeat.
    pub handlers: Handle,
}

/// Why a worker no longer runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stopped {
    /// It was asked to.
    Asked,
    /// The broker does not let it subscribe. In words.
    SubscriptionRefused(String),
}

/// Jobs that wait or run at once, at most: beyond, messages stay unacknowledged with the broker.
const MAX_JOBS: usize = 1_000;
/// How long a handler that was told to stop may take to do so.
const STOP_GRACE: Duration = Duration::from_secs(5);

impl<L: Link> Engine<L> {
    /// Takes jobs until `stop`, or until the broker refuses the subscription; then lets the running ones end.
    pub async fn run(
        self,
        mut incoming: mpsc::Receiver<Incoming<L::Receipt>>,
        stop: CancellationToken,
    ) -> Stopped {
        let (drain, jobs) = (self.drain, TaskTracker::new());
        let jobs_left = Arc::new(Semaphore::new(MAX_JOBS));
        let runner = Arc::new(Runner {
            slots: Semaphore::new(self.concurrency),
            ledger: Mutex::default(),
            stop: stop.clone(),
            abort: CancellationToken::new(),
            engine: self,
        });
        let stopped = loop {
            let message = tokio::select! {
                () = stop.cancelled() => break Stopped::Asked,
                message = incoming.recv() => message,
            };
            match message {
                None => break Stopped::Asked,
                Some(Incoming::SubscriptionRefused(reason)) => break Stopped::SubscriptionRefused(reason),
                Some(Incoming::Message { payload, receipt }) => {
                    let permit = tokio::select! {
                        () = stop.cancelled() => break Stopped::Asked,
                        Ok(permit) = Arc::clone(&jobs_left).acquire_owned() => permit,
                    };
                    runner.receive(&payload, receipt, permit, &jobs);
                }
            }
        };
        runner.stop.cancel();
        jobs.close();
        tracing::info!(jobs = jobs.len(), "stopping: no new jobs, running ones may end");
        if timeout(drain, jobs.wait()).await.is_err() {
            tracing::warn!(jobs = jobs.len(), "the drain time is over: handlers are told to stop");
            runner.abort.cancel();
            if timeout(STOP_GRACE * 2, jobs.wait()).await.is_err() {
                tracing::error!(jobs = jobs.len(), "jobs were left without an answer");
            }
        }
        runner.engine.link.close().await;
        stopped
    }
}

struct Runner<L> {
    engine: Engine<L>,
    slots: Semaphore,
    ledger: Mutex<Ledger>,
    /// No job starts any more.
    stop: CancellationToken,
    /// Running jobs are told to stop.
    abort: CancellationToken,
}

impl<L: Link> Runner<L> {
    /// Notes what a message asks for, acknowledges it, and lets it happen.
    fn receive(
        self: &Arc<Self>,
        payload: &[u8],
        receipt: L::Receipt,
        permit: OwnedSemaphorePermit,
        jobs: &TaskTracker,
    ) {
        let runner = Arc::clone(self);
        match JobMessage::parse(payload) {
            Err(invalid) => {
                tracing::error!(reason = invalid.reason, bytes = payload.len(), "not a job");
                let answer = reject(&invalid, payload);
                jobs.spawn(async move {
                    let _ = runner.deliver(answer.into(), None).await;
                    drop(permit);
                });
            }
            Ok(job) => {
                let job_id = job.id();
                match self.ledger().admit(job_id.clone()) {
                    Admission::New => {
                        tracing::info!(%job_id, kind = job.kind, execution = job.execution, "job received");
                        jobs.spawn(async move {
                            runner.run(Arc::new(job)).await;
                            drop(permit);
                        });
                    }
                    Admission::Running => tracing::info!(%job_id, "job received again: it runs"),
                    Admission::Answered(answer) => {
                        tracing::info!(%job_id, "job received again: its answer is sent again");
                        jobs.spawn(async move {
                            let _ = runner.deliver(answer, job.deadline).await;
                            drop(permit);
                        });
                    }
                }
            }
        }
        self.engine.link.acknowledge(receipt);
    }

    async fn run(&self, job: Arc<JobMessage>) {
        let job_id = job.id();
        let outcome = tokio::select! {
            outcome = self.work(&job) => outcome,
            never = self.signs_of_life(&job) => match never {},
        };
        let (answer, said) = match outcome {
            Ok(result) => match AnswerMessage::succeeded(&job, &result) {
                Some(answer) => (answer, "succeeded"),
                None => {
                    (AnswerMessage::failed(&job, &too_large(result.get().len(), IOT_PAYLOAD_BYTES)), "failed")
                }
            },
            Err(failure) => {
                tracing::warn!(%job_id, error = failure.error, "job failed");
                (AnswerMessage::failed(&job, &failure), "failed")
            }
        };
        let answer = Bytes::from(answer);
        self.ledger().finish(job_id.clone(), answer.clone());
        match self.deliver(answer, job.deadline).await {
            Err(PublishError::TooLarge { bytes, most }) => {
                let answer = Bytes::from(AnswerMessage::failed(&job, &too_large(bytes, most)));
                self.ledger().finish(job_id.clone(), answer.clone());
                let _ = self.deliver(answer, job.deadline).await;
            }
            Ok(()) => tracing::info!(%job_id, said, "answer with the broker"),
            Err(error) => tracing::error!(%job_id, said, "answer given up: {error}"),
        }
    }

    /// Tells Step Functions that the job is in good hands, again and again; only a Postern on the other side
    /// understands it. One message at a time: over a broken connection they do not pile up.
    async fn signs_of_life(&self, job: &JobMessage) -> Infallible {
        if job.job_id.is_some() {
            let accepted = AnswerMessage::accepted(job).into();
            let _ = self.engine.link.publish(&self.engine.answer_topic, accepted, Priority::Accepted).await;
            if let Some(seconds) = job.heartbeat_seconds {
                let every = Duration::from_secs(seconds.into()) / 3;
                let mut ticks = tokio::time::interval(every);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                ticks.tick().await;
                loop {
                    ticks.tick().await;
                    let heartbeat = AnswerMessage::heartbeat(job).into();
                    let _ = self
                        .engine
                        .link
                        .publish(&self.engine.answer_topic, heartbeat, Priority::Heartbeat)
                        .await;
                }
            }
        }
        std::future::pending().await
    }

    /// Waits for a free slot and runs the handler, until its end, the job's deadline or the worker's.
    async fn work(&self, job: &Arc<JobMessage>) -> Result<Box<RawValue>, TaskFailure> {
        let late = wait_until(job.deadline);
        tokio::pin!(late);
        let _slot = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Err(shutting_down("before the job started")),
            () = &mut late => return Err(deadline_exceeded(job)),
            slot = self.slots.acquire() => slot,
        };
        let cancelled = CancellationToken::new();
        let kind = job.kind.as_deref().unwrap_or(&self.engine.default_kind);
        let run = self.engine.registry.start(kind, JobContext::new(Arc::clone(job), cancelled.clone()))?;
        let mut handler = self.engine.handlers.spawn(run);
        let cut_off = tokio::select! {
            ended = &mut handler => return ended.unwrap_or_else(|_| Err(panicked(kind))),
            () = late => deadline_exceeded(job),
            () = self.abort.cancelled() => shutting_down("while the job ran"),
        };
        cancelled.cancel();
        match timeout(STOP_GRACE, &mut handler).await {
            // It came to an end of its own all the same.
            Ok(Ok(Ok(result))) => Ok(result),
            Ok(_) => Err(cut_off),
            Err(_) => {
                handler.abort();
                Err(cut_off)
            }
        }
    }

    /// Publishes an answer until the broker has it. What the broker refuses is tried again (a policy can be
    /// mended) until nobody waits for it any more, or the worker stops.
    async fn deliver(&self, answer: Bytes, deadline: Option<Timestamp>) -> Result<(), PublishError> {
        let mut backoff = Backoff::default();
        loop {
            let topic = &self.engine.answer_topic;
            let refused = match self.engine.link.publish(topic, answer.clone(), Priority::Answer).await {
                Err(refused @ PublishError::Refused(_)) => refused,
                done => return done,
            };
            let wait = backoff.next();
            tracing::error!(topic = %self.engine.answer_topic, retry_in = ?wait, "{refused}");
            tokio::select! {
                () = sleep(wait) => {}
                () = wait_until(deadline) => return Err(refused),
                () = self.stop.cancelled() => return Err(refused),
            }
        }
    }

    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends at `deadline`; never, where there is none.
async fn wait_until(deadline: Option<Timestamp>) {
    let Some(deadline) = deadline else { return std::future::pending().await };
    let left = deadline.duration_since(Timestamp::now());
    sleep(Duration::try_from(left).unwrap_or(Duration::ZERO)).await;
}

/// The answer to a message that is no job. Where it names a task, that task fails. Where it does not, the
/// answer carries what came and why it is no job; it names no task either, so `task-token-done` passes it on
/// to the dead-letter queue.
fn reject(invalid: &InvalidJob, payload: &[u8]) -> Vec<u8> {
    /// What fits into a publish as base64, beside the rest.
    const KEPT: usize = IOT_PAYLOAD_BYTES / 4 * 3 - 4_096;
    let failure = TaskFailure::new("Worker.InvalidJob", &invalid.reason);
    match &invalid.token {
        Some(token) => AnswerMessage::failed_task(token, None, &failure),
        None => json!({
            "TaskToken": null,
            "Status": "FAILED",
            "Error": failure.error,
            "Cause": failure.cause,
            "Bytes": payload.len(),
            "PayloadBase64": BASE64.encode(&payload[..payload.len().min(KEPT)]),
        })
        .to_string()
        .into_bytes(),
    }
}

fn too_large(bytes: usize, most: usize) -> TaskFailure {
    let cause = format!("the result has {bytes} bytes; the message around it may have {most}");
    TaskFailure::new("Worker.ResultTooLarge", cause)
}

fn shutting_down(when: &str) -> TaskFailure {
    TaskFailure::new("Worker.ShuttingDown", format!("the worker stopped {when}"))
}

fn deadline_exceeded(job: &JobMessage) -> TaskFailure {
    let deadline = job.deadline.unwrap_or_default();
    let cause = format!("the job's deadline was {deadline}; the worker's clock says {:.0}", Timestamp::now());
    TaskFailure::new("Worker.DeadlineExceeded", cause)
}

fn panicked(kind: &str) -> TaskFailure {
    TaskFailure::new("Worker.HandlerPanicked", format!("the handler of {kind:?} panicked"))
}

#[cfg(test)]
mod tests;
