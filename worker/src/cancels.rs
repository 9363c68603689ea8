//! Which jobs are cancelled. A cancellation is kept for as long as its job could still arrive, also if the worker does
//! not have the job: another worker may have it, or the message may be on its way. The journal keeps it across restarts.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use postern_types::JobId;
use tokio::sync::watch;

use crate::journal::Cancel;

/// The most cancellations that are kept; the oldest go first.
pub(crate) const MOST: usize = 10_000;

/// The cancellations.
#[derive(Debug, Default)]
pub(crate) struct Cancels {
    kept: Mutex<Kept>,
    /// Wakes the jobs that wait for their cancellation.
    added: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Kept {
    by_job: HashMap<JobId, Cancel>,
    order: VecDeque<JobId>,
}

impl Cancels {
    /// Those that an earlier process has kept.
    pub(crate) fn new(kept: Vec<Cancel>) -> Self {
        let cancels = Self::default();
        for cancel in kept {
            cancels.add(cancel);
        }
        cancels
    }

    /// Keeps a cancellation until it expires. A second one for the same job changes nothing but the time.
    pub(crate) fn add(&self, cancel: Cancel) {
        let mut kept = self.kept();
        if let Some(known) = kept.by_job.get_mut(&cancel.job_id) {
            known.expires_at = known.expires_at.max(cancel.expires_at);
            return;
        }

        kept.order.push_back(cancel.job_id.clone());
        kept.by_job.insert(cancel.job_id.clone(), cancel);
        if kept.order.len() > MOST {
            kept.shrink(Timestamp::now());
        }
        drop(kept);

        self.added.send_replace(());
    }

    /// Why the job is cancelled; `None` if it is not.
    pub(crate) fn reason(&self, job_id: &JobId) -> Option<String> {
        let kept = self.kept();
        let cancel = kept.by_job.get(job_id)?;
        (cancel.expires_at > Timestamp::now()).then(|| cancel.reason.clone())
    }

    /// Waits until the job is cancelled.
    pub(crate) async fn wait(&self, job_id: &JobId) -> String {
        let mut added = self.added.subscribe();
        loop {
            if let Some(reason) = self.reason(job_id) {
                return reason;
            }
            // The sender lives as long as this value.
            let _ = added.changed().await;
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Drops what has expired, and the oldest if that is not enough.
    fn shrink(&mut self, now: Timestamp) {
        self.by_job.retain(|_, cancel| cancel.expires_at > now);
        self.order.retain(|job_id| self.by_job.contains_key(job_id));
        while self.order.len() > MOST {
            let Some(oldest) = self.order.pop_front() else { return };
            self.by_job.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    fn cancel(number: usize, seconds: i64) -> Cancel {
        let job_id = JobId::parse(format!("{number:032x}")).unwrap();
        let expires_at = Timestamp::now() + SignedDuration::from_secs(seconds);
        Cancel { job_id, reason: format!("reason {number}"), expires_at }
    }

    #[tokio::test]
    async fn a_job_learns_of_its_cancellation_whenever_it_comes() {
        let cancels = Cancels::new(vec![cancel(1, 60)]);
        assert_eq!(cancels.wait(&cancel(1, 0).job_id).await, "reason 1");

        let later = cancel(2, 60);
        let (reason, ()) = tokio::join!(cancels.wait(&later.job_id), async {
            tokio::task::yield_now().await;
            cancels.add(cancel(3, 60));
            tokio::task::yield_now().await;
            cancels.add(later.clone());
        });
        assert_eq!(reason, "reason 2");
    }

    #[test]
    fn an_expired_cancellation_is_none() {
        let cancels = Cancels::new(vec![cancel(1, -1)]);
        assert_eq!(cancels.reason(&cancel(1, 0).job_id), None);
        cancels.add(cancel(1, 60));
        assert!(cancels.reason(&cancel(1, 0).job_id).is_some(), "a later message extends it");
    }

    #[test]
    fn no_more_are_kept_than_the_bound_and_the_oldest_go_first() {
        let cancels = Cancels::new((0..=MOST).map(|number| cancel(number, 60)).collect());
        assert_eq!(cancels.reason(&cancel(0, 0).job_id), None);
        assert!(cancels.reason(&cancel(1, 0).job_id).is_some());
        let kept = cancels.kept();
        assert_eq!((kept.order.len(), kept.by_job.len()), (MOST, MOST));
    }
}
