//! The worker of the verification: the worker of the product, with handlers whose outcomes the checks know.

use std::process::ExitCode;
use std::time::Duration;

use postern_worker::{Add, Handler, JobContext, TaskFailure, Worker};
use serde_json::Value;

/// Makes the file that an input names, if it names one.
fn touch(file: &Value) {
    if let Some(file) = file.as_str() {
        // The check that waits for the file says what is missing.
        let _ = std::fs::write(file, "");
    }
}

/// Runs for the number of seconds that its input names.
struct Hold;

impl Handler for Hold {
    type Output = Value;

    async fn run(&self, job: JobContext) -> Result<Value, TaskFailure> {
        let input: Value = job.input()?;
        let seconds = input["seconds"].as_u64().unwrap_or_default();
        touch(&input["began"]);

        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(seconds)) => Ok(input),
            () = job.cancelled() => {
                touch(&input["told"]);
                Err(TaskFailure::new("Verify.Cancelled", "the job was cancelled, or its deadline has passed"))
            }
        }
    }
}

/// Fails the first attempt and succeeds in the second. Both tell the idempotency key.
struct Again;

impl Handler for Again {
    type Output = String;

    async fn run(&self, job: JobContext) -> Result<String, TaskFailure> {
        match job.attempt() {
            Some(0) => Err(TaskFailure::new("Verify.Again", job.idempotency_key())),
            _ => Ok(job.idempotency_key()),
        }
    }
}

fn main() -> ExitCode {
    Worker::new(env!("CARGO_BIN_NAME"), env!("CARGO_PKG_VERSION"))
        .on("add", Add)
        .on("verify-hold", Hold)
        .on("verify-again", Again)
        .main()
}
