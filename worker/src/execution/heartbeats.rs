//! The notices of a job that waits or runs: `ACCEPTED`, then heartbeats.

use std::convert::Infallible;
use std::time::Duration;

use postern_types::{AnswerMessage, JobMessage};
use tokio::time::{MissedTickBehavior, sleep};

use super::Execution;
use crate::delivery::wait_until;
use crate::link::{Link, Priority};
use crate::runs::RunKey;

/// When the notice `ACCEPTED` is sent. Most jobs have ended by then and need none.
const ACCEPTED_AFTER: Duration = Duration::from_secs(1);

impl<L: Link> Execution<L> {
    /// Sends `ACCEPTED` after a second, then a heartbeat every third of `HeartbeatSeconds`, until the deadline.
    /// Skipped for jobs without a `JobId`: the AWS sample's functions would take these messages for results.
    pub(super) async fn heartbeats(&self, key: &RunKey, job: &JobMessage) -> Infallible {
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
