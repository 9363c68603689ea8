//! Cancelling a job: the message to the workers of its tenant.

use jiff::Timestamp;
use postern_runtime::iot::{PublishFailed, Publisher};
use postern_types::{CancelMessage, JobId, Tenant};

/// The longest time that the broker keeps a cancellation for a worker that is offline, in seconds.
const MOST_SECONDS: u32 = 24 * 60 * 60;

/// The shortest such time. A worker whose clock differs gets the message nevertheless.
const LEAST_SECONDS: u32 = 60;

/// The way to the workers of a tenant.
#[expect(async_fn_in_trait, reason = "functions run on one thread, so the future need not be Send")]
pub trait Cancel {
    /// Asks the workers of the tenant to end a job. The broker keeps the message until the job's deadline, and for a day
    /// at most.
    async fn cancel(
        &self,
        tenant: &Tenant,
        job_id: &JobId,
        reason: &str,
        expiry_seconds: u32,
    ) -> Result<(), PublishFailed>;
}

impl Cancel for Publisher {
    async fn cancel(
        &self,
        tenant: &Tenant,
        job_id: &JobId,
        reason: &str,
        expiry_seconds: u32,
    ) -> Result<(), PublishFailed> {
        let message = CancelMessage { job_id: job_id.clone(), reason: reason.to_owned() };
        self.publish(&format!("{tenant}/to/worker/cancel"), message.bytes(), Some(expiry_seconds)).await
    }
}

/// How long the broker keeps a cancellation: until the job's deadline, but at least a minute and at most a day.
pub fn cancel_expiry(deadline: Option<Timestamp>, now: Timestamp) -> u32 {
    let left = deadline.map_or(MOST_SECONDS, |deadline| {
        u32::try_from(deadline.duration_since(now).as_secs()).unwrap_or_default()
    });
    left.clamp(LEAST_SECONDS, MOST_SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancellation_expires_with_its_job_and_after_a_day_at_most() {
        let at = |second| Some(Timestamp::from_second(second).unwrap());
        let expiry = |deadline| cancel_expiry(deadline, Timestamp::UNIX_EPOCH);
        assert_eq!([expiry(None), expiry(at(-5)), expiry(at(600))], [86_400, 60, 600]);
        assert_eq!(expiry(at(200_000)), 86_400);
    }
}
