//! Admission: from a message to an entry in the journal, and from there to the broker's PUBACK. Runs nothing.

use std::sync::Arc;

use bytes::Bytes;
use postern_types::{InvalidJob, JobMessage};
use serde_json::value::RawValue;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

use crate::answers;
use crate::delivery::Delivery;
use crate::execution::Execution;
use crate::health::{Counter, Health};
use crate::journal::{Admitted, Answer, Entry, Journal, NewJob, RecoveredJob};
use crate::link::Link;

/// Most messages that are admitted in one transaction of the journal.
const BATCH: usize = 100;

/// Takes messages in.
pub(crate) struct Admission<L> {
    pub(crate) journal: Journal,
    pub(crate) execution: Arc<Execution<L>>,
    pub(crate) delivery: Arc<Delivery<L>>,
    pub(crate) health: Health,
    /// The jobs that the worker may still take.
    pub(crate) room: Arc<Semaphore>,
    /// The tasks of the jobs that the worker holds.
    pub(crate) jobs: TaskTracker,
}

/// A message as it was read.
type Parsed = Result<Arc<JobMessage>, InvalidJob>;

impl<L: Link> Admission<L> {
    /// Waits until the worker may take another job. Returns how many it may take at once.
    pub(crate) async fn wait_for_room(&self) -> usize {
        // Only this task takes permits, so that the room can only grow until the next message.
        match self.room.acquire().await {
            Ok(permit) => drop(permit),
            Err(_) => std::future::pending().await,
        }
        self.room.available_permits().clamp(1, BATCH)
    }

    /// Notes messages in the journal, acknowledges them, and lets their jobs run.
    pub(crate) async fn receive(&self, messages: Vec<(Bytes, L::Receipt)>) {
        let parsed: Vec<Parsed> =
            messages.iter().map(|(payload, _)| JobMessage::parse(payload).map(Arc::new)).collect();
        let entries = messages.iter().zip(&parsed).map(|((payload, _), job)| self.entry(job, payload));
        let admitted = self.journal.admit(entries.collect()).await;

        for (((_, receipt), job), admitted) in messages.into_iter().zip(parsed).zip(admitted) {
            self.delivery.link.acknowledge(receipt);
            self.proceed(job, admitted).await;
        }
    }

    fn entry(&self, job: &Parsed, payload: &Bytes) -> Entry {
        match job {
            Ok(job) => {
                let run = self.execution.run_key(job);
                let (job_id, message) = (job.id().to_string(), payload.clone());
                let started = self.execution.runs.is_started(&run);
                Entry::Job(NewJob { job_id, kind: run.kind, key: run.key, message, started })
            }
            Err(invalid) => {
                self.health.add(Counter::Invalid, 1);
                tracing::error!(reason = invalid.reason, bytes = payload.len(), "a message is not a job");
                Entry::Report {
                    id: InvalidJob::report_id(payload),
                    payload: answers::report(invalid, payload),
                }
            }
        }
    }

    async fn proceed(&self, job: Parsed, admitted: Admitted) {
        match (admitted, job) {
            (Admitted::New, Ok(job)) => {
                self.health.add(Counter::Received, 1);
                tracing::info!(
                    job_id = %job.id(), trace_id = job.trace_id(), kind = job.kind, execution = job.execution,
                    "job received"
                );
                let permit = self.permit().await;
                self.run(job, false, permit);
            }
            (Admitted::Report(answer), _) => {
                let permit = self.permit().await;
                self.deliver(answer, None, permit);
            }
            (Admitted::Answered(answer), Ok(job)) => {
                self.health.add(Counter::Redelivered, 1);
                tracing::info!(
                    job_id = %job.id(), trace_id = job.trace_id(),
                    "job received again: its answer is sent again"
                );
                let permit = self.permit().await;
                self.deliver(answer, Some(job), permit);
            }
            (Admitted::Known, Ok(job)) => {
                self.health.add(Counter::Redelivered, 1);
                tracing::info!(
                    job_id = %job.id(), trace_id = job.trace_id(),
                    "job received again: its answer will follow"
                );
            }
            (Admitted::Known, Err(_)) => {
                tracing::info!("an invalid message was received again: it is reported once");
            }
            // Only jobs are admitted as jobs.
            (Admitted::New | Admitted::Answered(_), Err(_)) => {}
        }
    }

    /// Continues what an earlier process left behind.
    pub(crate) fn recover(&self, jobs: Vec<RecoveredJob>, answers: Vec<Answer>) {
        if jobs.len() + answers.len() > 0 {
            tracing::info!(
                jobs = jobs.len(),
                answers = answers.len(),
                "the journal holds work of an earlier process"
            );
        }

        for answer in answers {
            self.deliver(answer, None, self.spare_permit());
        }
        for RecoveredJob { message, started, progress } in jobs {
            match JobMessage::parse(&message) {
                Ok(mut job) => {
                    // What this attempt has reported is newer than what the message says of earlier ones.
                    let progress = progress.and_then(|progress| RawValue::from_string(progress).ok());
                    job.resume = progress.or(job.resume);
                    self.run(Arc::new(job), started, self.spare_permit());
                }
                Err(invalid) => {
                    tracing::error!(
                        reason = invalid.reason,
                        "a job in the journal cannot be read: left there"
                    );
                }
            }
        }
    }

    fn run(&self, job: Arc<JobMessage>, interrupted: bool, permit: Option<OwnedSemaphorePermit>) {
        let served = Arc::clone(&self.execution).serve(job, interrupted);
        self.jobs.spawn(async move {
            served.await;
            drop(permit);
        });
    }

    /// Sends an answer in the background. The job names the trace in the log; an earlier process's answer has none.
    fn deliver(&self, answer: Answer, job: Option<Arc<JobMessage>>, permit: Option<OwnedSemaphorePermit>) {
        let delivery = Arc::clone(&self.delivery);
        self.jobs.spawn(async move {
            delivery.deliver(answer, job.as_ref().and_then(|job| job.trace_id())).await;
            drop(permit);
        });
    }

    async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.room).acquire_owned().await.ok()
    }

    /// A permit if there is one. Recovered jobs are here whether there is room or not.
    fn spare_permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.room).try_acquire_owned().ok()
    }
}
