//! What `task-token-done` writes into the table of jobs, and how it makes lost cancellations good.
//!
//! Whatever fails here changes nothing for the answer, which Step Functions has by then.

use jiff::Timestamp;
use postern_jobs::{Cancel, End, Jobs, Rank, State, best_effort};
use postern_types::{JobId, TaskFailure, Tenant};

/// How long the broker keeps a cancellation for a closed task, in seconds. The worker has just sent a message, and its
/// next heartbeat brings another cancellation.
const CANCEL_SECONDS: u32 = 300;

/// The table of jobs, and the way to the workers.
pub(crate) struct Record<J, C> {
    pub(crate) jobs: J,
    pub(crate) workers: C,
}

/// What an answer says of its job.
#[derive(Debug)]
pub(crate) enum News {
    /// A worker has the job.
    Accepted,
    /// The job still waits or runs.
    Alive,
    /// The worker asked for a presigned URL.
    Asked,
    /// The job succeeded.
    Succeeded,
    /// The job failed.
    Failed(TaskFailure),
    /// The job was cancelled.
    Cancelled(TaskFailure),
}

/// The job that an answer belongs to, as the IoT rule stamped it.
pub(crate) struct Sender<'a> {
    pub(crate) job_id: &'a JobId,
    pub(crate) tenant: Option<&'a str>,
    pub(crate) worker: Option<&'a str>,
}

impl<J: Jobs, C: Cancel> Record<J, C> {
    /// Records an answer that Step Functions accepted.
    pub(crate) async fn taken(&self, sender: &Sender<'_>, news: &News, now: Timestamp) {
        let Some(tenant) = tenant(sender) else { return };
        let end = match news {
            News::Accepted => {
                let call = self.jobs.accepted(&tenant, sender.job_id, sender.worker, now);
                best_effort("accepted", call).await;
                return;
            }
            // A job has many heartbeats. None of them says more than the first answer did.
            News::Alive | News::Asked => return,
            News::Succeeded => End::new(State::Succeeded, Rank::Answered),
            News::Failed(failure) => because(State::Failed, Rank::Answered, failure),
            News::Cancelled(failure) => because(State::Cancelled, Rank::Answered, failure),
        };
        self.end(&tenant, sender, end, now).await;
    }

    /// Records an answer to a task that had ended, and cancels the job if it still waits or runs. The cancellation of a
    /// stopped execution may have been lost, or may have come before the dispatcher recorded the job.
    pub(crate) async fn closed(&self, sender: &Sender<'_>, news: &News, now: Timestamp) {
        let Some(tenant) = tenant(sender) else { return };

        if matches!(news, News::Accepted | News::Alive | News::Asked) {
            let reason = "the task had ended";
            let call = self.workers.cancel(&tenant, sender.job_id, reason, CANCEL_SECONDS);
            match call.await {
                Ok(()) => tracing::info!(job_id = %sender.job_id, "the job of a closed task is cancelled"),
                Err(error) => {
                    tracing::warn!(job_id = %sender.job_id, %error, "no cancellation was published");
                }
            }
        }
        let end = match news {
            News::Cancelled(failure) => because(State::Cancelled, Rank::Concluded, failure),
            _ => End::new(State::TimedOut, Rank::Concluded)
                .because("States.Timeout", "the task had ended before the worker answered"),
        };
        self.end(&tenant, sender, end, now).await;
    }

    async fn end(&self, tenant: &Tenant, sender: &Sender<'_>, end: End, now: Timestamp) {
        let end = End { worker: sender.worker.map(str::to_owned), ..end };
        best_effort("ended", self.jobs.ended(tenant, sender.job_id, &end, now)).await;
    }
}

/// The tenant that the rule stamped. A message that was invoked directly has none, and is not recorded.
fn tenant(sender: &Sender<'_>) -> Option<Tenant> {
    Tenant::parse(sender.tenant?).ok()
}

fn because(state: State, rank: Rank, failure: &TaskFailure) -> End {
    End::new(state, rank).because(failure.error(), failure.cause())
}
