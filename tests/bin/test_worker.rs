//! A worker whose jobs a test controls: `hold` runs until the file that its input names is there, and blocks
//! its thread while it waits, as a handler that calls a slow database driver would.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use postern_worker::{Add, Handler, JobContext, Registry, TaskFailure};
use serde_json::value::RawValue;
use serde_json::{Value, json};

struct Hold;

impl Handler for Hold {
    type Output = Value;

    async fn run(&self, job: JobContext) -> Result<Value, TaskFailure> {
        let input: Value = job.input()?;
        let file = input["until"].as_str().unwrap_or_default();
        while !Path::new(file).exists() {
            if job.is_cancelled() {
                return Err(TaskFailure::new("Hold.Cancelled", "told to stop"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(input)
    }
}

/// Reports progress and writes a line of the log, ten times a second, until the file that its input names is there.
struct Steps;

impl Handler for Steps {
    type Output = Value;

    async fn run(&self, job: JobContext) -> Result<Value, TaskFailure> {
        let input: Value = job.input()?;
        let file = input["until"].as_str().unwrap_or_default();

        let mut steps = 0_u32;
        while !Path::new(file).exists() {
            if job.is_cancelled() {
                return Err(TaskFailure::new("Steps.Cancelled", "told to stop"));
            }
            steps += 1;
            let percent = 100.0 - 10_000.0 / f64::from(100 + steps);
            job.progress(&json!({"percent": percent, "message": format!("step {steps}")}));
            job.log(format!("step {steps} is done"));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(input)
    }
}

struct Echo;

impl Handler for Echo {
    type Output = Box<RawValue>;

    async fn run(&self, job: JobContext) -> Result<Self::Output, TaskFailure> {
        Ok(job.raw_input().to_owned())
    }
}

struct Twice;

impl Handler for Twice {
    type Output = [Box<RawValue>; 2];

    async fn run(&self, job: JobContext) -> Result<Self::Output, TaskFailure> {
        Ok([job.raw_input().to_owned(), job.raw_input().to_owned()])
    }
}

/// Answers with the job's idempotency key.
struct Key;

impl Handler for Key {
    type Output = String;

    async fn run(&self, job: JobContext) -> Result<String, TaskFailure> {
        Ok(job.idempotency_key())
    }
}

fn main() -> ExitCode {
    postern_test_disk::install();
    let registry = Registry::new().on("add", Add).on("hold", Hold).on("echo", Echo).on("twice", Twice);
    postern_worker::main(registry.on("key", Key).on("steps", Steps))
}
