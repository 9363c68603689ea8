//! One job in a database: a transaction with the section's statement and, for `exactly-once`, the answer beside it.

use postern_types::TaskFailure;

use super::csv::CsvFile;
use super::statement::Statement;
use crate::handlers::input::Argument;

/// The table of answers, for messages and for `doctor`.
pub(super) const ANSWERS: &str = "postern_answers";
/// The failure of a database that cannot be reached or ends the connection.
pub(super) const UNAVAILABLE: &str = "Sql.Unavailable";

/// How many deadlocks one claim of a key survives.
const DEADLOCKS: usize = 100;

/// What a job runs.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) statement: Statement,
    /// The values of `statement.names`.
    pub(super) arguments: Vec<Argument>,
    pub(super) read_only: bool,
    pub(super) max_rows: usize,
    /// The file that the rows go to, for `format = "csv"`.
    pub(super) csv: Option<CsvFile>,
    /// The key under which the answer is kept, for `exactly-once`.
    pub(super) key: Option<Key>,
}

/// The primary key of the table of answers.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) kind: String,
    pub(super) idempotency_key: String,
}

/// A connection to a database.
pub(super) trait Session: Send {
    /// Begins a transaction.
    fn begin(&mut self, read_only: bool) -> impl Future<Output = Result<(), TaskFailure>> + Send;

    /// Inserts the key with an empty answer. If it is there already, returns its answer. Waits for a transaction that
    /// has inserted the key and not ended yet.
    fn claim(&mut self, key: &Key) -> impl Future<Output = Result<Option<String>, TaskFailure>> + Send;

    /// Runs the statement and returns its result as JSON text.
    fn execute(&mut self, call: &Call) -> impl Future<Output = Result<String, TaskFailure>> + Send;

    /// Puts the answer beside the claimed key.
    fn remember(&mut self, key: &Key, answer: &str) -> impl Future<Output = Result<(), TaskFailure>> + Send;

    /// Ends the transaction with its effects.
    fn commit(&mut self) -> impl Future<Output = Result<(), TaskFailure>> + Send;

    /// Ends the transaction without its effects.
    fn rollback(&mut self) -> impl Future<Output = Result<(), TaskFailure>> + Send;
}

/// Runs the job in the transaction that was begun, and ends the transaction.
pub(super) async fn finish(session: &mut impl Session, call: &Call) -> Result<String, TaskFailure> {
    if let Some(key) = &call.key
        && let Some(answer) = claim(session, key).await?
    {
        session.rollback().await?;
        return Ok(answer);
    }

    let answer = session.execute(call).await?;
    if let Some(key) = &call.key {
        session.remember(key, &answer).await?;
    }
    session.commit().await.map_err(|failure| unknown_outcome(failure, call.read_only))?;
    Ok(answer)
}

/// Claims the key. A database that ends one of several waiting transactions as a deadlock has done nothing of it, so that
/// the claim is made again in a new one.
async fn claim(session: &mut impl Session, key: &Key) -> Result<Option<String>, TaskFailure> {
    for _ in 0..DEADLOCKS {
        match session.claim(key).await {
            Err(failure) if failure.error() == "Sql.Conflict" => {
                session.rollback().await?;
                session.begin(false).await?;
            }
            claimed => return claimed,
        }
    }
    session.claim(key).await
}

/// A connection that breaks during the commit leaves open whether the effects are there.
fn unknown_outcome(failure: TaskFailure, read_only: bool) -> TaskFailure {
    if read_only || failure.error() != UNAVAILABLE {
        return failure;
    }
    let cause = format!("the connection broke during COMMIT; the effects may be there: {}", failure.cause());
    TaskFailure::new("Sql.OutcomeUnknown", cause)
}

/// The failure of a statement that the database refused, by its SQLSTATE.
pub(super) fn refused(state: &str, message: &str) -> TaskFailure {
    let name = match state {
        "25006" => "Sql.ReadOnly",
        "42501" => "Sql.Denied",
        "55P03" => "Sql.Conflict",
        "57014" | "70100" => "Sql.Cancelled",
        _ if state.starts_with("08") || state.starts_with("53") || state.starts_with("57P") => UNAVAILABLE,
        _ if state.starts_with("22") => "Sql.Data",
        _ if state.starts_with("23") => "Sql.Constraint",
        _ if state.starts_with("28") => "Sql.Denied",
        _ if state.starts_with("40") => "Sql.Conflict",
        _ => "Sql.Statement",
    };
    TaskFailure::new(name, format!("{message} (SQLSTATE {state})"))
}

/// The failure of a database that cannot be reached, or whose connection broke.
pub(super) fn unavailable(cause: impl AsRef<str>) -> TaskFailure {
    TaskFailure::new(UNAVAILABLE, cause)
}

/// An error with all its causes, without repetitions.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut texts = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        texts.push(cause.to_string());
        next = cause.source();
    }
    texts.dedup();
    texts.join(": ")
}
