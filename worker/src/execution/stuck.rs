//! Handlers that do not end when they are told to, and the number of slots, on which it depends how many of them the
//! worker can bear.

use std::time::Duration;

use postern_types::JobMessage;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::timeout;

use super::{ABORT_GRACE, Execution, Returned};
use crate::link::Link;
use crate::runs::RunKey;

/// How long all slots may be stuck before the process must be restarted.
const STUCK_LIMIT: Duration = Duration::from_mins(1);

impl<L: Link> Execution<L> {
    /// Ends a handler that did not stop when it was told to, and waits until it has ended. A handler that blocks
    /// its thread cannot be ended from outside: it counts as stuck until it returns.
    pub(super) async fn abort_handler(
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
            job_id = %job.id(), trace_id = job.trace_id(), kind = key.kind, stuck, slots = self.slots.total(),
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

    /// Changes how many handlers run at a time, and makes sure that they have the threads.
    pub(crate) fn set_concurrency(&self, concurrency: usize) -> std::io::Result<()> {
        self.threads.reserve(concurrency)?;
        self.slots.resize(concurrency);
        self.health.set_slots(concurrency);
        // Whether all slots are stuck depends on their number.
        self.stuck.send_modify(|_| {});
        Ok(())
    }

    /// Waits until all slots have been stuck for so long that only a restart helps.
    pub(crate) async fn all_stuck(&self) {
        let mut stuck = self.stuck.subscribe();
        loop {
            let all = |stuck: &usize| *stuck >= self.slots.total();
            if stuck.wait_for(all).await.is_err() {
                return std::future::pending().await;
            }
            if timeout(STUCK_LIMIT, stuck.wait_for(|stuck| !all(stuck))).await.is_err() {
                return;
            }
        }
    }
}
