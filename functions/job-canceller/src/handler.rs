//! Cancels the open jobs of an execution: first at the worker, then in the table, so that a retry finds the jobs whose
//! cancellation could not be published.
//!
//! A job that the dispatcher records after this function has looked is not found. Its worker's `ACCEPTED`, or its first
//! heartbeat, is then an answer to a closed task, for which `task-token-done` publishes the same cancellation.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use postern_jobs::{Cancel, End, Jobs, OpenJob, Rank, State, cancel_expiry};
use postern_runtime::{NamedError, metrics};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The most jobs that are cancelled at the same time.
const AT_A_TIME: usize = 16;

/// The function's answer. EventBridge ignores it; a person who invokes the function by hand sees it.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Cancelled {
    /// The number of jobs that were cancelled.
    cancelled: usize,
}

/// The reasons for which jobs are not cancelled. Lambda retries the event, and then sends it to the function's on-failure
/// destination.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the event is no status change of an execution: {0}")]
    InvalidEvent(String),
    #[error("{0}")]
    TableUnavailable(postern_jobs::Error),
    #[error("{0}")]
    TableRefused(postern_jobs::Error),
    #[error("the cancellation could not be published to AWS IoT Core: {0}")]
    PublishFailed(String),
}

impl NamedError for Error {
    fn name(&self) -> &'static str {
        match self {
            Self::InvalidEvent(_) => "JobCanceller.InvalidEvent",
            Self::TableUnavailable(_) => "JobCanceller.TableUnavailable",
            Self::TableRefused(_) => "JobCanceller.TableRefused",
            Self::PublishFailed(_) => "JobCanceller.PublishFailed",
        }
    }
}

impl From<postern_jobs::Error> for Error {
    fn from(error: postern_jobs::Error) -> Self {
        match error {
            postern_jobs::Error::Unavailable(_) => Self::TableUnavailable(error),
            _ => Self::TableRefused(error),
        }
    }
}

/// EventBridge's `Step Functions Execution Status Change`.
#[derive(Deserialize)]
struct Event {
    detail: Execution,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Execution {
    execution_arn: String,
    status: String,
    error: Option<String>,
    cause: Option<String>,
}

/// The end of the execution's jobs, with a reason for people.
struct Reason {
    state: State,
    error: &'static str,
    text: String,
}

impl Execution {
    /// `None` if the jobs of the execution may go on.
    fn reason(&self) -> Option<Reason> {
        let why = [&self.error, &self.cause].into_iter().flatten().filter(|text| !text.is_empty());
        let why: String = why.map(|text| format!(": {text}")).collect();

        let (state, error, what) = match &*self.status {
            "ABORTED" => (State::Cancelled, "Worker.Cancelled", "the execution was stopped"),
            "FAILED" => (State::Cancelled, "Worker.Cancelled", "the execution failed"),
            "TIMED_OUT" => (State::TimedOut, "States.Timeout", "the execution timed out"),
            _ => return None,
        };
        Some(Reason { state, error, text: format!("{what}{why}") })
    }
}

/// Cancels the open jobs of the execution in `event`.
pub(crate) async fn cancel(
    jobs: &impl Jobs,
    workers: &impl Cancel,
    event: &RawValue,
    now: Timestamp,
) -> Result<Cancelled, Error> {
    let event: Event =
        serde_json::from_str(event.get()).map_err(|error| Error::InvalidEvent(error.to_string()))?;
    let execution = event.detail;
    let Some(reason) = execution.reason() else { return Ok(Cancelled { cancelled: 0 }) };

    let open = jobs.open_jobs(&execution.execution_arn).await?;
    let cancelled = stream::iter(&open)
        .map(Ok)
        .map_ok(|job| cancel_job(jobs, workers, job, &reason, now))
        .try_buffer_unordered(AT_A_TIME)
        .try_fold(0, async |total, ()| Ok(total + 1))
        .await?;

    metrics::add("JobsCancelled", cancelled);
    let (execution, status) = (execution.execution_arn, execution.status);
    tracing::info!(execution, status, cancelled, "the execution has ended");
    Ok(Cancelled { cancelled })
}

async fn cancel_job(
    jobs: &impl Jobs,
    workers: &impl Cancel,
    job: &OpenJob,
    reason: &Reason,
    now: Timestamp,
) -> Result<(), Error> {
    let OpenJob { tenant, job_id, deadline } = job;
    let published = workers.cancel(tenant, job_id, &reason.text, cancel_expiry(*deadline, now));
    published.await.map_err(|error| Error::PublishFailed(error.to_string()))?;

    let end = End::new(reason.state, Rank::ExecutionEnded).because(reason.error, &reason.text);
    jobs.ended(tenant, job_id, &end, now).await?;
    tracing::info!(%job_id, %tenant, "job cancelled");
    Ok(())
}

#[cfg(test)]
mod tests;
