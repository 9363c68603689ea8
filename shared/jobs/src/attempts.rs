//! The attempts of an idempotency key: which of them the table remembers, and their order.

use crate::model::{JobItem, NewJob};

/// The most attempts of an idempotency key that the table remembers.
pub const ATTEMPTS: usize = 20;

/// The key under which a job is remembered as one of several attempts. A job whose key is its own id has no others.
pub(crate) fn shared_key(job: &NewJob) -> Option<&str> {
    job.idempotency_key.as_deref().filter(|key| *key != job.job_id.as_str())
}

/// The last of the ids.
pub(crate) fn last_attempts(ids: &[String]) -> &[String] {
    &ids[ids.len().saturating_sub(ATTEMPTS)..]
}

/// The progress of the latest attempt that has one. An attempt begins with the progress of the one before, so an attempt
/// without any stands for an earlier one only if the table failed.
pub(crate) fn last_data(attempts: Vec<JobItem>) -> Option<String> {
    attempts.into_iter().rev().find_map(|attempt| attempt.data)
}

/// The jobs in the order in which they were dispatched, which is not always the one in which they were recorded.
pub(crate) fn in_order(mut jobs: Vec<JobItem>) -> Vec<JobItem> {
    jobs.sort_by(|one, other| (&one.dispatched_at, &one.job_id).cmp(&(&other.dispatched_at, &other.job_id)));
    jobs
}
