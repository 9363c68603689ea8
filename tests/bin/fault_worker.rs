//! The worker of the fault tests. Its handlers leave a trace of every run in the folder that `FAULTS_FOLDER` names,
//! so that the harness can count runs and effects after the worker has been killed.
//!
//! - `starts.log` has one line for each time a handler started: `{JobId} {idempotency key}`.
//! - `effects.db` has one row for each key for which the `exactly-once` handler committed its effect.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use postern_worker::{Handler, JobContext, Policy, Registry, TaskFailure};
use rusqlite::{Connection, params};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Input {
    number: u64,
    milliseconds: u64,
}

/// Records that it started, works for as long as its input says, and answers with the input's number.
struct Trace {
    folder: PathBuf,
    policy: Policy,
}

impl Trace {
    fn new(policy: Policy) -> Self {
        let folder = std::env::var_os("FAULTS_FOLDER").unwrap_or_else(|| ".".into()).into();
        Self { folder, policy }
    }

    /// Appends one line in one write, which a kill cannot tear.
    fn record_start(&self, job: &JobContext) -> std::io::Result<()> {
        let mut log = OpenOptions::new().append(true).create(true).open(self.folder.join("starts.log"))?;
        log.write_all(format!("{} {}\n", job.job_id(), job.idempotency_key()).as_bytes())
    }

    /// Commits the effect unless the key has one, and returns the number that identifies the effect.
    fn apply_effect(&self, key: &str) -> rusqlite::Result<i64> {
        let mut effects = Connection::open(self.folder.join("effects.db"))?;
        effects.busy_timeout(Duration::from_mins(1))?;
        let transaction = effects.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        transaction.execute("create table if not exists effect (key text primary key, runs integer)", [])?;
        transaction.execute("insert or ignore into effect values (?1, 1)", params![key])?;
        let effect =
            transaction
                .query_row("select rowid from effect where key = ?1", params![key], |row| row.get(0))?;
        transaction.commit()?;
        Ok(effect)
    }
}

impl Handler for Trace {
    type Output = Value;

    fn policy(&self) -> Policy {
        self.policy
    }

    async fn run(&self, job: JobContext) -> Result<Value, TaskFailure> {
        let input: Input = job.input()?;
        self.record_start(&job).map_err(|error| TaskFailure::new("Faults.Log", error.to_string()))?;

        tokio::time::sleep(Duration::from_millis(input.milliseconds)).await;
        if self.policy != Policy::ExactlyOnce {
            return Ok(json!({"number": input.number}));
        }

        let effect = self
            .apply_effect(&job.idempotency_key())
            .map_err(|error| TaskFailure::new("Faults.Effect", error.to_string()))?;
        Ok(json!({"number": input.number, "effect": effect}))
    }
}

fn main() -> ExitCode {
    postern_test_disk::install();
    postern_worker::main(
        Registry::new()
            .on("once", Trace::new(Policy::Once))
            .on("idempotent", Trace::new(Policy::Idempotent))
            .on("exactly-once", Trace::new(Policy::ExactlyOnce)),
    )
}
