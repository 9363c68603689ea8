//! A worker with one handler: a job of the kind `uptime` returns the uptime of the worker's machine in seconds.

use std::fs;
use std::process::ExitCode;

use postern_worker::{Handler, JobContext, Policy, TaskFailure, Worker};
use serde::Serialize;

/// Reads the uptime. It ignores the input of a job.
struct Uptime;

#[derive(Serialize)]
struct Answer {
    seconds: f64,
}

impl Handler for Uptime {
    type Output = Answer;

    /// A job may run again after a crash, because reading the uptime twice does no harm.
    fn policy(&self) -> Policy {
        Policy::Idempotent
    }

    async fn run(&self, _job: JobContext) -> Result<Answer, TaskFailure> {
        let text = fs::read_to_string("/proc/uptime")
            .map_err(|error| TaskFailure::new("Uptime.Unavailable", format!("/proc/uptime: {error}")))?;
        let seconds = text.split(' ').next().and_then(|number| number.parse().ok());
        seconds.map(|seconds| Answer { seconds }).ok_or_else(|| {
            TaskFailure::new(
                "Uptime.Unavailable",
                format!("/proc/uptime does not begin with a number: {text:?}"),
            )
        })
    }
}

fn main() -> ExitCode {
    Worker::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")).on("uptime", Uptime).main()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_uptime_is_positive() {
        let answer = Uptime.run(JobContext::for_test("no input")).await.unwrap();
        assert!(answer.seconds > 0.0);
    }
}
