//! A worker whose jobs a test controls: `hold` runs until the file that its input names is there, and blocks
//! its thread while it waits, as a handler that calls a slow database driver would.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use postern_worker::{Add, Handler, JobContext, Registry, TaskFailure};
use serde_json::Value;
use serde_json::value::RawValue;

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

/// Works through numbered items, reports each, and answers with the first one: that of the last report of an earlier
/// attempt, if there was one. A first attempt waits before the last tenth of the items, so that a test can interrupt it.
struct Items;

impl Handler for Items {
    type Output = u64;

    async fn run(&self, job: JobContext) -> Result<u64, TaskFailure> {
        let count: u64 = job.input()?;
        let resumed = job.resume::<Value>();
        let first = resumed.as_ref().and_then(|progress| progress["item"].as_u64()).unwrap_or(0);
        for item in first..count {
            if resumed.is_none() && item == count * 9 / 10 {
                job.cancelled().await;
                return Err(TaskFailure::new("Items.Cancelled", format!("at item {item}")));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
            job.progress(&serde_json::json!({"item": item + 1, "percent": (item + 1) * 100 / count}));
        }
        Ok(first)
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
    postern_worker::main(registry.on("key", Key).on("items", Items))
}
