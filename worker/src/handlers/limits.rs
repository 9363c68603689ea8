//! What bounds a configured handler: its time and the size of its result.

use std::time::{Duration, Instant};

use postern_types::limits::IOT_PAYLOAD_BYTES;
use postern_types::{Answer, TaskFailure};
use tokio::time::sleep_until;

use crate::handler::JobContext;

/// The largest result that fits into a message. A handler stops at it rather than fill the memory.
pub(crate) const RESULT_BYTES: usize = IOT_PAYLOAD_BYTES;

/// The time limit of one job of a handler.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimeLimit {
    end: Instant,
    seconds: u32,
    /// The error of a job that takes longer.
    error: &'static str,
}

impl TimeLimit {
    /// A limit of `seconds` from now. `error` names the failure of a job that takes longer.
    pub(crate) fn new(seconds: u32, error: &'static str) -> Self {
        Self { end: Instant::now() + Duration::from_secs(seconds.into()), seconds, error }
    }

    /// Waits until the job must stop, and returns the failure that it then has.
    pub(crate) async fn reached(self, job: &JobContext) -> TaskFailure {
        tokio::select! {
            () = job.cancelled() => cancelled(),
            () = sleep_until(self.end.into()) => self.timed_out(),
        }
    }

    /// The failure of a job that must stop now, for handlers that block.
    #[cfg_attr(not(feature = "files"), expect(dead_code, reason = "only files block their thread"))]
    pub(crate) fn check(self, job: &JobContext) -> Result<(), TaskFailure> {
        if job.is_cancelled() {
            Err(cancelled())
        } else if Instant::now() >= self.end {
            Err(self.timed_out())
        } else {
            Ok(())
        }
    }

    fn timed_out(self) -> TaskFailure {
        let cause = format!("the job did not end within the handler's timeout_seconds, {}", self.seconds);
        TaskFailure::new(self.error, cause)
    }
}

fn cancelled() -> TaskFailure {
    TaskFailure::new(Answer::CANCELLED, "the job was stopped: its deadline has passed, or the worker stops")
}

/// The failure of a result that does not fit into a message.
pub(crate) fn too_large(what: &str) -> TaskFailure {
    let cause = format!("{what} exceeds {RESULT_BYTES} bytes, which AWS IoT Core carries at most");
    TaskFailure::new("Worker.ResultTooLarge", cause)
}
