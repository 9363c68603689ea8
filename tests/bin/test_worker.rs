//! A worker whose jobs a test controls: `hold` runs until the file that its input names is there, and blocks
//! its thread while it waits, as a handler that calls a slow database driver would.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use postern_worker::{Add, Handler, JobContext, Policy, Registry, TaskFailure};
use serde_json::value::RawValue;
use serde_json::{Value, json};

struct Hold;

impl Handler for Hold {
    type Output = Value;

    async fn run(&self, job: JobContext) -> Result<Value, TaskFailure> {
        let input: Value = job.input()?;
        touch(&input["began"]);
        let file = input["until"].as_str().unwrap_or_default();
        while !Path::new(file).exists() {
            if job.is_cancelled() {
                touch(&input["ended"]);
                return Err(TaskFailure::new("Hold.Cancelled", "told to stop"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(input)
    }
}

/// Makes the file that an input names, if it names one.
fn touch(file: &Value) {
    if let Some(file) = file.as_str() {
        // The test that waits for the file says what is missing.
        let _ = std::fs::write(file, "");
    }
}

/// Holds as `hold` does, and ignores that it should stop.
struct Stubborn;

impl Handler for Stubborn {
    type Output = Value;

    async fn run(&self, job: JobContext) -> Result<Value, TaskFailure> {
        let input: Value = job.input()?;
        let file = input["until"].as_str().unwrap_or_default();
        while !Path::new(file).exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(input)
    }
}

/// Counts rows from where the attempt before was, and notes in a file where it began. It stops at one row for as long as
/// a file is there.
struct Rows;

#[derive(serde::Deserialize)]
struct RowsInput {
    rows: u32,
    stop_at: u32,
    r#while: PathBuf,
    began: PathBuf,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Row {
    percent: u32,
    row: u32,
}

impl Handler for Rows {
    type Output = u32;

    async fn run(&self, job: JobContext) -> Result<u32, TaskFailure> {
        let input: RowsInput = job.input()?;
        let first = job.resume().map_or(0, |Row { row, .. }| row);
        let began = OpenOptions::new().create(true).append(true).open(&input.began);
        let noted = began.and_then(|mut file| writeln!(file, "{first}"));
        noted.map_err(|error| TaskFailure::new("Rows.Note", error.to_string()))?;

        for row in first..=input.rows {
            job.progress(&Row { percent: row * 100 / input.rows, row });
            job.log(format!("row {row}"));
            while row == input.stop_at && input.r#while.exists() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(input.rows)
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

/// Writes a result of `bytes` bytes, the same each time, once the file `until` is there.
struct Big;

impl Handler for Big {
    type Output = ();

    fn policy(&self) -> Policy {
        Policy::Idempotent
    }

    async fn run(&self, job: JobContext) -> Result<(), TaskFailure> {
        let input: Value = job.input()?;
        let (bytes, until) =
            (input["bytes"].as_u64().unwrap_or(0), input["until"].as_str().unwrap_or_default());
        touch(&input["began"]);

        let mut file = job.result_file("application/octet-stream")?;
        let mut written = 0;
        while written < bytes {
            let block = block(written);
            let most = usize::try_from(bytes - written).unwrap_or(block.len()).min(block.len());
            file.append(&block[..most])?;
            written += most as u64;
        }

        while !until.is_empty() && !Path::new(until).exists() {
            std::thread::sleep(Duration::from_millis(20));
        }
        file.finish()
    }
}

/// The 64 KiB that follow the first `start` bytes: numbers, so that no block is like another.
fn block(start: u64) -> Vec<u8> {
    (0..8_192).flat_map(|number| (start + number).to_be_bytes()).collect()
}

/// Answers with the size of its input, and with the sum of its bytes.
struct Size;

impl Handler for Size {
    type Output = Value;

    async fn run(&self, job: JobContext) -> Result<Value, TaskFailure> {
        let file = job.input_file().ok_or_else(|| TaskFailure::new("Size.NoFile", "the input is no file"))?;
        let content =
            std::fs::read(file).map_err(|error| TaskFailure::new("Size.Unreadable", error.to_string()))?;
        let sum: u64 = content.iter().copied().map(u64::from).sum();
        Ok(serde_json::json!({"bytes": content.len(), "sum": sum}))
    }
}

fn main() -> ExitCode {
    postern_test_disk::install();
    let registry = Registry::new().on("add", Add).on("hold", Hold).on("echo", Echo).on("twice", Twice);
    let registry = registry.on("big", Big).on("size", Size).on("items", Items).on("key", Key);
    postern_worker::main(registry.on("steps", Steps).on("rows", Rows).on("stubborn", Stubborn))
}
