//! Calls of the table that must not fail a job.

use std::time::Duration;

use postern_runtime::metrics;

use crate::error::Error;

/// How long a job waits for the table, for all attempts of one call together.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The result of a call of the table. A call that fails, or takes longer than two seconds, is logged, counted as
/// `JobTableErrors`, and is `None`: the job goes on without it.
pub async fn best_effort<T>(what: &str, call: impl Future<Output = Result<T, Error>>) -> Option<T> {
    let reason = match tokio::time::timeout(TIMEOUT, call).await {
        Ok(Ok(result)) => return Some(result),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {TIMEOUT:?}"),
    };

    metrics::count("JobTableErrors");
    tracing::warn!(what, reason, "the table of jobs could not be used; the job goes on without it");
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_that_fails_is_none() {
        assert_eq!(best_effort("read", async { Ok(1) }).await, Some(1));
        let failed = async { Err::<u8, _>(Error::Unavailable("HTTP 500".into())) };
        assert_eq!(best_effort("read", failed).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_table_that_does_not_answer_delays_a_job_by_two_seconds() {
        let start = tokio::time::Instant::now();
        assert_eq!(best_effort("read", std::future::pending::<Result<u8, _>>()).await, None);
        assert_eq!(start.elapsed(), TIMEOUT);
    }
}
