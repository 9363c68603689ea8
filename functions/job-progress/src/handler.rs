//! Handles the function's two kinds of events. A worker's message, by an IoT rule, has the progress of all its jobs, which
//! is recorded. An event of the table's stream names the jobs that have changed, whoever wrote them, and becomes hints.

use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use postern_jobs::{Change, Jobs, Progress, changes};
use postern_runtime::{NamedError, metrics};
use postern_types::{JobProgress, ProgressMessage, Tenant};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The most jobs of a message that are written at the same time.
const AT_A_TIME: usize = 16;

/// The function's answer. Its callers ignore it; a person who invokes the function by hand sees it.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum Handled {
    Recorded(Recorded),
    Announced(Announced),
}

/// What became of a worker's message.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Recorded {
    /// The number of jobs whose progress was written.
    recorded: usize,
    /// The number of jobs of which the table knew more already, or that the tenant does not have.
    ignored: usize,
}

/// What became of an event of the table's stream.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Announced {
    /// The number of jobs that have changed.
    announced: usize,
}

/// The reasons for which progress is not recorded. Lambda retries the event, and then sends it to the function's
/// on-failure destination.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the message is no progress: {0}")]
    InvalidMessage(String),
    #[error("{0}")]
    TableUnavailable(postern_jobs::Error),
    #[error("{0}")]
    TableRefused(postern_jobs::Error),
}

impl NamedError for Error {
    fn name(&self) -> &'static str {
        match self {
            Self::InvalidMessage(_) => "JobProgress.InvalidMessage",
            Self::TableUnavailable(_) => "JobProgress.TableUnavailable",
            Self::TableRefused(_) => "JobProgress.TableRefused",
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

/// The way to those who watch jobs. Hints may be lost: who gets one reads the job from the API.
pub(crate) trait Hint {
    /// Hints at jobs that have changed.
    async fn hint(&self, changes: &[Change]);
}

/// Handles an event of either kind.
pub(crate) async fn handle(
    jobs: &impl Jobs,
    hints: &impl Hint,
    event: &RawValue,
    now: Timestamp,
) -> Result<Handled, Error> {
    let Some(changes) = changes(event.get()) else {
        return record(jobs, event, now).await.map(Handled::Recorded);
    };

    hints.hint(&changes).await;
    Ok(Handled::Announced(Announced { announced: changes.len() }))
}

/// Records the progress in `event`.
async fn record(jobs: &impl Jobs, event: &RawValue, now: Timestamp) -> Result<Recorded, Error> {
    let (tenant, message) = read(event)?;
    let latest = received_at(event).unwrap_or(now);
    let worker = message.worker.as_deref();
    let entries = message.jobs.into_iter().map(|entry| progress(entry, latest));

    // One job that cannot be written does not keep the others from being written.
    let writes = entries.map(async |entry| jobs.progress(&tenant, worker, &entry).await);
    let written: Vec<_> = stream::iter(writes).buffer_unordered(AT_A_TIME).collect().await;
    let written = written.into_iter().collect::<Result<Vec<_>, _>>()?;

    let recorded = written.iter().flatten().count();
    metrics::add("JobProgressRecorded", recorded);
    Ok(Recorded { recorded, ignored: written.len() - recorded })
}

/// Reads the worker's message, and the tenant that the rule stamped.
fn read(event: &RawValue) -> Result<(Tenant, ProgressMessage), Error> {
    let invalid = |reason: &dyn ToString| Error::InvalidMessage(reason.to_string());
    let message = ProgressMessage::parse(event.get().as_bytes()).map_err(|error| invalid(&error))?;
    let tenant = message.tenant.as_deref().ok_or_else(|| invalid(&"the IoT rule has stamped no tenant"))?;
    let tenant = Tenant::parse(tenant).map_err(|error| invalid(&error))?;
    Ok((tenant, message))
}

/// When the broker received the message: the rule's `timestamp()`.
fn received_at(event: &RawValue) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Stamp {
        #[serde(rename = "receivedAt")]
        received_at: i64,
    }

    let stamp: Stamp = serde_json::from_str(event.get()).ok()?;
    Timestamp::from_millisecond(stamp.received_at).ok()
}

/// The entry for the table. A worker whose clock is ahead must not make all later progress look old, so the time of its
/// entries is `latest` at most.
fn progress(entry: JobProgress, latest: Timestamp) -> Progress {
    Progress {
        job_id: entry.job_id,
        percent: entry.percent,
        message: entry.message,
        data: entry.data.map(|data| data.get().to_owned()),
        log: entry.log,
        at: entry.at.min(latest),
    }
}

#[cfg(test)]
mod tests;
