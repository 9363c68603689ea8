//! What the dispatcher writes into the table of jobs, and reads from it. A stack without the table, and a table that
//! fails, change nothing for the job but this.

use jiff::Timestamp;
use postern_jobs::{End, Jobs, NewJob, Rank, State, best_effort};
use postern_runtime::NamedError;
use postern_types::{JobId, JobMessage, Tenant, Topic};
use serde_json::value::RawValue;

use crate::error::Error;

/// The job's place in the table, if there is a table.
pub(crate) struct Record<'a, J> {
    jobs: Option<&'a J>,
    job: NewJob,
}

impl<'a, J: Jobs> Record<'a, J> {
    /// The record of a job that is about to be published. It is not written yet.
    pub(crate) fn new(
        jobs: Option<&'a J>,
        job_id: &JobId,
        (tenant, topic): (&Tenant, &Topic),
        name: Option<&str>,
        message: &JobMessage,
        now: Timestamp,
    ) -> Self {
        let job = NewJob {
            kind: message.kind.clone(),
            name: name.map(str::to_owned),
            execution: message.execution.clone(),
            state_name: message.state.clone(),
            attempt: message.attempt,
            idempotency_key: message.idempotency_key.clone(),
            topic: Some(topic.to_string()),
            deadline: message.deadline,
            ..NewJob::new(tenant.clone(), job_id.clone(), now)
        };
        Self { jobs, job }
    }

    /// The last progress of an earlier attempt.
    pub(crate) async fn resume(&self) -> Option<Box<RawValue>> {
        let (jobs, key) = (self.jobs?, self.job.idempotency_key.as_deref()?);
        let data = best_effort("resume", jobs.resume(&self.job.tenant, key)).await??;
        RawValue::from_string(data).ok()
    }

    /// Writes the job. This happens before the message is published, because progress is written only to a job that
    /// exists. It keeps the progress that the job carries: if this attempt reports none, the next one begins there, too.
    pub(crate) async fn dispatched(&mut self, resume: Option<&RawValue>) {
        let Some(jobs) = self.jobs else { return };

        self.job.resume = resume.map(|progress| progress.get().to_owned());
        best_effort("dispatched", jobs.dispatched(&self.job)).await;
    }

    /// Writes that the job was not published. The state machine retries with another job.
    pub(crate) async fn not_published(&self, error: &Error) {
        let Some(jobs) = self.jobs else { return };
        let end = End::new(State::Failed, Rank::Answered).because(error.name(), error.to_string());

        let NewJob { tenant, job_id, dispatched_at, .. } = &self.job;
        best_effort("not published", jobs.ended(tenant, job_id, &end, *dispatched_at)).await;
    }
}
