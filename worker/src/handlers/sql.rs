//! Handlers of `type = "sql"`: one statement in PostgreSQL, MySQL, MariaDB or SQLite.
//!
//! The statement is fixed by the configuration. The job's input gives the values of its named parameters, which reach
//! the database beside the statement and never become part of its text.

mod cell;
mod csv;
mod mysql;
mod pool;
mod postgres;
mod rows;
mod session;
mod sqlite;
mod statement;

use std::time::Duration;

use postern_types::TaskFailure;
use serde_json::value::RawValue;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::input;
use super::limits::TimeLimit;
use crate::config::handlers::{self as config, PolicyName};
use crate::handler::{Handler, JobContext, Policy};
use csv::CsvFile;
use pool::Pool;
use session::{ANSWERS, Call, Key, Session as _, finish};
use statement::{Dialect, Statement};

/// How long an interrupted statement of SQLite may take to end.
const INTERRUPT_TIMEOUT: Duration = Duration::from_secs(2);

/// The most rows of a JSON result, unless `max_rows` says otherwise.
const MAX_ROWS: usize = 10_000;

/// A handler of one statement.
pub(crate) struct Sql {
    kind: String,
    config: config::Sql,
    statement: Statement,
    database: Database,
}

enum Database {
    Postgres(Pool<postgres::Connection>),
    Mysql(Pool<mysql::Connection>),
    Sqlite,
}

impl Sql {
    /// A handler of the section `kind`, or what is wrong with the section.
    pub(crate) fn new(kind: &str, config: config::Sql) -> Result<Self, String> {
        if config.max_rows == Some(0) {
            return Err("max_rows: 0 is not a number of rows; give 1 or more".into());
        }
        if config.policy == Some(PolicyName::ExactlyOnce) && config.read_only {
            return Err("policy: \"exactly-once\" writes the answer, so it needs read_only = false".into());
        }
        if config.policy == Some(PolicyName::ExactlyOnce) && config.format == config::Format::Csv {
            return Err(
                "policy: \"exactly-once\" keeps the answer in a table, so it needs format = \"json\"".into(),
            );
        }

        let url = config.url.read().map_err(|error| format!("url: {error}"))?;
        let (dialect, database) = database(&url, &config)?;
        let statement = statement::parse(&config.statement, dialect)
            .map_err(|problem| format!("statement: {problem}"))?;
        Ok(Self { kind: kind.to_owned(), config, statement, database })
    }

    /// Whether the database can be reached and takes the statement, for `doctor`. Nothing is executed.
    pub(crate) async fn check(&self) -> Result<String, String> {
        let answers = format!("SELECT answer FROM {ANSWERS}");
        let exactly_once = self.policy() == Policy::ExactlyOnce;
        let statements = [Some(&self.statement.text), exactly_once.then_some(&answers)];

        for text in statements.into_iter().flatten() {
            let checked = match &self.database {
                Database::Postgres(pool) => async { pool.open().await?.check(text).await }.await,
                Database::Mysql(pool) => async { pool.open().await?.check(text).await }.await,
                Database::Sqlite => sqlite::Connection::open(&self.config.url, self.config.read_only)
                    .and_then(|connection| connection.check(text)),
            };
            checked.map_err(|failure| format!("{}: {}", failure.error(), failure.cause()))?;
        }
        Ok("ok, the database takes the statement".into())
    }

    fn call(&self, job: &JobContext) -> Result<Call, TaskFailure> {
        let exactly_once = self.policy() == Policy::ExactlyOnce;
        let key = || Key { kind: self.kind.clone(), idempotency_key: job.idempotency_key() };
        let is_csv = self.config.format == config::Format::Csv;
        let csv = is_csv.then(|| CsvFile::create(job)).transpose()?;
        Ok(Call {
            arguments: input::arguments(job, &self.statement.names)?,
            statement: self.statement.clone(),
            read_only: self.config.read_only,
            max_rows: self.config.max_rows.unwrap_or(if is_csv { usize::MAX } else { MAX_ROWS }),
            csv,
            key: exactly_once.then(key),
        })
    }

    /// Runs a job in SQLite, on a thread of its own.
    async fn run_sqlite(
        &self,
        call: Call,
        stop: impl Future<Output = TaskFailure>,
    ) -> Result<String, TaskFailure> {
        let mut connection = sqlite::Connection::open(&self.config.url, call.read_only)?;
        let canceller = connection.canceller()?;
        let mut work = tokio::task::spawn_blocking(move || {
            Handle::current().block_on(async {
                connection.begin(call.read_only).await?;
                // A transaction that fails ends with its connection.
                finish(&mut connection, &call).await
            })
        });

        let failure = tokio::select! {
            ended = &mut work => return ended.unwrap_or_else(|panic| Err(panicked(&panic))),
            failure = stop => failure,
        };
        drop(canceller);
        match timeout(INTERRUPT_TIMEOUT, work).await {
            Ok(Ok(Ok(answer))) => Ok(answer),
            _ => Err(failure),
        }
    }
}

impl Handler for Sql {
    type Output = Box<RawValue>;

    /// A transaction that cannot write may run again.
    fn policy(&self) -> Policy {
        let default = if self.config.read_only { Policy::Idempotent } else { Policy::Once };
        self.config.policy.map_or(default, Policy::from)
    }

    async fn run(&self, job: JobContext) -> Result<Box<RawValue>, TaskFailure> {
        let stop = TimeLimit::new(self.config.timeout_seconds, "Sql.Timeout").reached(&job);
        let call = self.call(&job)?;
        let csv = call.csv.clone();
        let answer = match &self.database {
            Database::Postgres(pool) => pool.run(&call, stop).await?,
            Database::Mysql(pool) => pool.run(&call, stop).await?,
            Database::Sqlite => self.run_sqlite(call, stop).await?,
        };
        csv.map_or(Ok(()), |csv| csv.finish())?;
        RawValue::from_string(answer).map_err(|error| {
            TaskFailure::new("Worker.InvalidResult", format!("the answer is not JSON: {error}"))
        })
    }
}

fn database(url: &str, config: &config::Sql) -> Result<(Dialect, Database), String> {
    let (url_secret, ca) = (config.url.clone(), config.ca.clone());
    match url.split_once("://").map(|(scheme, _)| scheme) {
        Some("postgres" | "postgresql") => {
            let options = postgres::Options { url: url_secret, ca };
            Ok((Dialect::Postgres, Database::Postgres(Pool::new(options))))
        }
        Some("mysql") => {
            let options = mysql::Options { url: url_secret, ca };
            Ok((Dialect::Mysql, Database::Mysql(Pool::new(options))))
        }
        Some("sqlite") => Ok((Dialect::Sqlite, Database::Sqlite)),
        _ => Err("url: it must begin with postgres://, mysql:// or sqlite:///".into()),
    }
}

fn panicked(panic: &tokio::task::JoinError) -> TaskFailure {
    TaskFailure::new("Worker.HandlerPanicked", format!("the statement's thread ended: {panic}"))
}

#[cfg(test)]
mod tests;
