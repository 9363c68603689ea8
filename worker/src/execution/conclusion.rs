//! The end of a run: each of its attempts gets an outcome of its own, in the outbox, and a large result is uploaded for it.

use postern_types::{JobMessage, TaskFailure};

use super::{Execution, finished};
use crate::answers::{self, Outcome};
use crate::claim::{Produced, UPLOAD_FAILED};
use crate::delivery::wait_until;
use crate::handler::Policy;
use crate::health::Counter;
use crate::journal::Memory;
use crate::link::Link;
use crate::runs::{Attempt, RunKey};

/// The largest result that is remembered: what fits into an answer.
const MEMORY_BYTES: usize = postern_types::limits::IOT_PAYLOAD_BYTES;

impl<L: Link> Execution<L> {
    /// Answers all attempts of a run, those that join meanwhile included, and removes the run.
    pub(super) async fn conclude(&self, key: &RunKey, produced: &Result<Produced, TaskFailure>) {
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
        let pairs = attempts.iter().zip(&outcomes);
        let finished = pairs.map(|(attempt, outcome)| finished(&attempt.job, outcome)).collect();
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
        let job_id = job.id();
        let outcome = tokio::select! {
            biased;
            outcome = self.claims.settle(job, produced) => outcome,
            () = wait_until(job.deadline) => Err(answers::deadline_exceeded(job)),
            reason = self.cancels.wait(&job_id) => Err(answers::cancelled(&reason)),
        };
        self.own_outcome(job, outcome)
    }

    /// The outcome for one of the attempts of a run: an attempt that has joined a run while it was being cancelled was
    /// not cancelled itself.
    fn own_outcome(&self, job: &JobMessage, outcome: Outcome) -> Outcome {
        match outcome {
            Err(failure) if answers::is_cancelled(&failure) && self.cancels.reason(&job.id()).is_none() => {
                Err(answers::cancelled_with_another())
            }
            outcome => outcome,
        }
    }

    pub(super) fn log(&self, job: &JobMessage, outcome: &Outcome) {
        match outcome {
            Ok(_) => {
                self.health.add(Counter::Succeeded, 1);
                tracing::info!(job_id = %job.id(), trace_id = job.trace_id(), "job succeeded");
            }
            Err(failure) if answers::is_cancelled(failure) => {
                self.health.add(Counter::Cancelled, 1);
                tracing::info!(job_id = %job.id(), trace_id = job.trace_id(), "job cancelled");
            }
            Err(failure) => {
                self.health.add(Counter::Failed, 1);
                tracing::warn!(job_id = %job.id(), trace_id = job.trace_id(), error = failure.error(), "job failed");
            }
        }
    }

    /// What the journal should remember of a run. Failures are not remembered: the next attempt is made to try again.
    fn memory(&self, key: &RunKey, produced: &Result<Produced, TaskFailure>) -> Option<Memory> {
        let exactly_once = self.registry.policy(&key.kind) == Policy::ExactlyOnce;
        let Ok(Produced::Value(result)) = produced else { return None };
        if !exactly_once || result.get().len() > MEMORY_BYTES {
            return None;
        }
        Some(Memory { kind: key.kind.clone(), key: key.key.clone(), result: result.get().to_owned() })
    }
}

/// Whether another attempt can deliver the result that is on the disk.
fn may_upload_later(outcome: &Outcome) -> bool {
    let later = [UPLOAD_FAILED, "Worker.DeadlineExceeded"];
    outcome.as_ref().is_err_and(|failure| later.contains(&failure.error()))
}
