//! SQLite. Its calls block, so that they run on a thread of their own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use postern_types::TaskFailure;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection as Database, Error, ErrorCode, OpenFlags, ToSql};

use super::cell::Cell;
use super::rows::{Rows, affected};
use super::session::{ANSWERS, Call, Key, Session, unavailable};
use crate::config::handlers::Secret;
use crate::handlers::input::Argument;

/// How long a statement waits for another writer.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// After how many steps of its virtual machine SQLite looks whether the job was cancelled.
const PROGRESS_STEPS: i32 = 10_000;

/// A connection. Dropping it closes it.
pub(super) struct Connection {
    database: Database,
}

/// Ends what a connection runs, and what it begins later, when it is dropped. An interrupt handle of SQLite would miss a
/// statement that has not begun yet.
pub(super) struct Canceller(Arc<AtomicBool>);

impl Connection {
    /// Opens a file that exists.
    pub(super) fn open(url: &Secret, read_only: bool) -> Result<Self, TaskFailure> {
        let url = url.read().map_err(|error| unavailable(format!("url: {error}")))?;
        let path = path(&url).ok_or_else(|| unavailable("url: it is not sqlite:///ABSOLUTE/PATH"))?;
        let access =
            if read_only { OpenFlags::SQLITE_OPEN_READ_ONLY } else { OpenFlags::SQLITE_OPEN_READ_WRITE };
        let database = Database::open_with_flags(&path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX);
        let database = database.map_err(|error| unavailable(format!("{}: {error}", path.display())))?;
        database.busy_timeout(BUSY_TIMEOUT).map_err(|error| failure(&error))?;
        Ok(Self { database })
    }

    pub(super) fn canceller(&mut self) -> Result<Canceller, TaskFailure> {
        let cancelled = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&cancelled);
        self.database
            .progress_handler(PROGRESS_STEPS, Some(move || seen.load(Ordering::Relaxed)))
            .map_err(|error| failure(&error))?;
        Ok(Canceller(cancelled))
    }

    /// Lets SQLite check the statement, for `doctor`.
    pub(super) fn check(&self, text: &str) -> Result<(), TaskFailure> {
        self.database.prepare(text).map(|_| ()).map_err(|error| failure(&error))
    }

    fn command(&self, text: &str) -> Result<(), TaskFailure> {
        self.database.execute_batch(text).map_err(|error| failure(&error))
    }
}

/// `sqlite:///PATH` without anything that the path could not contain.
fn path(url: &str) -> Option<PathBuf> {
    let path = Path::new(url.strip_prefix("sqlite://")?);
    path.is_absolute().then(|| path.to_owned())
}

impl Drop for Canceller {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Session for Connection {
    async fn begin(&mut self, read_only: bool) -> Result<(), TaskFailure> {
        // A transaction that is going to write takes the lock first, because two readers cannot both become writers.
        self.command(if read_only { "BEGIN" } else { "BEGIN IMMEDIATE" })
    }

    async fn claim(&mut self, key: &Key) -> Result<Option<String>, TaskFailure> {
        let columns = [&key.kind, &key.idempotency_key];
        let insert =
            format!("INSERT OR IGNORE INTO {ANSWERS} (kind, idempotency_key, answer) VALUES (?1, ?2, '')");
        if self.database.execute(&insert, columns).map_err(|error| failure(&error))? == 1 {
            return Ok(None);
        }

        let select = format!("SELECT answer FROM {ANSWERS} WHERE kind = ?1 AND idempotency_key = ?2");
        self.database.query_row(&select, columns, |row| row.get(0)).map(Some).map_err(|error| failure(&error))
    }

    async fn execute(&mut self, call: &Call) -> Result<String, TaskFailure> {
        run(&self.database, call)
    }

    async fn remember(&mut self, key: &Key, answer: &str) -> Result<(), TaskFailure> {
        let update = format!("UPDATE {ANSWERS} SET answer = ?3 WHERE kind = ?1 AND idempotency_key = ?2");
        let updated = self.database.execute(&update, [&key.kind, &key.idempotency_key, answer]);
        updated.map(|_| ()).map_err(|error| failure(&error))
    }

    async fn commit(&mut self) -> Result<(), TaskFailure> {
        self.command("COMMIT")
    }

    async fn rollback(&mut self) -> Result<(), TaskFailure> {
        self.command("ROLLBACK")
    }
}

fn run(database: &Database, call: &Call) -> Result<String, TaskFailure> {
    let failed = |error: Error| failure(&error);
    let mut statement = database.prepare(&call.statement.text).map_err(failed)?;
    for (index, argument) in call.arguments.iter().enumerate() {
        statement.raw_bind_parameter(index + 1, Parameter(argument)).map_err(failed)?;
    }
    if statement.column_count() == 0 {
        let changed = statement.raw_execute().map_err(failed)?;
        return Ok(affected(changed as u64));
    }

    let names: Vec<_> = statement.column_names().map(str::to_owned).collect();
    let mut result = Rows::new(names.iter().map(String::as_str), call.max_rows, call.csv.as_ref())?;
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next().map_err(failed)? {
        let cells = (0..names.len()).map(|index| row.get_ref(index).map(cell).map_err(failed));
        result.add(cells.collect::<Result<Vec<_>, _>>()?)?;
    }
    Ok(result.end())
}

struct Parameter<'a>(&'a Argument);

impl ToSql for Parameter<'_> {
    /// A number that is neither a whole number of 64 bits nor a double of the same text goes as text.
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let value = match self.0 {
            Argument::Null => ValueRef::Null,
            Argument::Bool(value) => ValueRef::Integer((*value).into()),
            Argument::Number(text) => number(text),
            Argument::Text(text) | Argument::Json(text) => ValueRef::Text(text.as_bytes()),
        };
        Ok(ToSqlOutput::Borrowed(value))
    }
}

fn number(text: &str) -> ValueRef<'_> {
    if let Ok(whole) = text.parse() {
        return ValueRef::Integer(whole);
    }
    match text.parse::<f64>() {
        Ok(double) if text.contains(['.', 'e', 'E']) && double.is_finite() => ValueRef::Real(double),
        _ => ValueRef::Text(text.as_bytes()),
    }
}

fn cell(value: ValueRef<'_>) -> Cell {
    match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(number) => Cell::Integer(number),
        ValueRef::Real(number) => Cell::Float(number),
        ValueRef::Text(text) => match std::str::from_utf8(text) {
            Ok(text) => Cell::Text(text.to_owned()),
            Err(_) => Cell::Bytes(text.to_owned()),
        },
        ValueRef::Blob(bytes) => Cell::Bytes(bytes.to_owned()),
    }
}

fn failure(error: &Error) -> TaskFailure {
    let name = match error.sqlite_error_code() {
        Some(ErrorCode::ConstraintViolation) => "Sql.Constraint",
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => "Sql.Conflict",
        Some(ErrorCode::ReadOnly) => "Sql.ReadOnly",
        Some(ErrorCode::OperationInterrupted) => "Sql.Cancelled",
        Some(ErrorCode::TypeMismatch | ErrorCode::TooBig) => "Sql.Data",
        Some(ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied) => "Sql.Denied",
        Some(
            ErrorCode::CannotOpen
            | ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure
            | ErrorCode::NotADatabase,
        ) => {
            return unavailable(error.to_string());
        }
        _ => "Sql.Statement",
    };
    TaskFailure::new(name, error.to_string())
}
