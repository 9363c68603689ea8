//! The worker of `make demo`: the product's worker, with a second handler that takes its time and tells how far it is.

use std::process::ExitCode;
use std::time::Duration;

use postern_worker::{Add, Handler, JobContext, Registry, TaskFailure};
use serde_json::{Value, json};

/// Counts rows, about two hundred a second.
struct Count;

impl Handler for Count {
    type Output = u64;

    async fn run(&self, job: JobContext) -> Result<u64, TaskFailure> {
        let input: Value = job.input()?;
        let rows = input["rows"].as_u64().unwrap_or_default();
        let first = job.resume().map_or(0, |progress: Value| progress["row"].as_u64().unwrap_or_default());

        for row in first..=rows {
            if job.is_cancelled() {
                return Err(TaskFailure::new("Count.Cancelled", format!("stopped at row {row}")));
            }
            let message = format!("row {row} of {rows}");
            job.progress(&json!({"percent": row * 100 / rows.max(1), "message": message, "row": row}));
            if row % 200 == 0 {
                job.log(format!("counted {row} rows"));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(rows)
    }
}

fn main() -> ExitCode {
    postern_worker::main(Registry::new().on("add", Add).on("count", Count))
}
