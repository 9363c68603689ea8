//! Connections that wait for their next job, and the run of one job on one of them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use postern_types::TaskFailure;
use tokio::time::timeout;

use super::session::{Call, Session, UNAVAILABLE, finish};

/// How long the server may take to cancel a statement. The worker ends a handler that takes longer than 5 seconds.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a cancelled statement may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(2);
/// Failures after which a connection has nothing left to receive, so that it can be used again.
const REUSABLE: [&str; 7] = [
    "Sql.Conflict",
    "Sql.Constraint",
    "Sql.Data",
    "Sql.Denied",
    "Sql.ReadOnly",
    "Sql.Statement",
    "Worker.InvalidInput",
];

/// A session that a pool can open, and whose statements it can cancel.
pub(super) trait Connect: Session + Sized {
    /// What a connection needs.
    type Options: Send + Sync;

    /// Opens a connection.
    fn open(options: &Self::Options) -> impl Future<Output = Result<Self, TaskFailure>> + Send;

    /// Cancels what the session runs at the time of the call to the future.
    fn cancel(&self) -> impl Future<Output = ()> + Send + 'static;
}

/// Open connections. A broken one is replaced when it is used.
pub(super) struct Pool<C: Connect> {
    options: C::Options,
    idle: Mutex<Vec<C>>,
}

impl<C: Connect> Pool<C> {
    pub(super) fn new(options: C::Options) -> Self {
        Self { options, idle: Mutex::default() }
    }

    /// A new connection, for `doctor`.
    pub(super) async fn open(&self) -> Result<C, TaskFailure> {
        C::open(&self.options).await
    }

    /// Runs a job, until it ends or until `stop` ends with a failure.
    pub(super) async fn run(
        &self,
        call: &Call,
        stop: impl Future<Output = TaskFailure>,
    ) -> Result<String, TaskFailure> {
        let mut stop = std::pin::pin!(stop);
        let mut connection = tokio::select! {
            connection = self.begin(call.read_only) => connection?,
            failure = &mut stop => return Err(failure),
        };

        let cancel = connection.cancel();
        let outcome = {
            let mut work = std::pin::pin!(finish(&mut connection, call));
            tokio::select! {
                outcome = &mut work => outcome,
                failure = stop => {
                    let _ = timeout(CANCEL_TIMEOUT, cancel).await;
                    // A statement that was committed before the server knew of the end has its result.
                    let ended = timeout(END_TIMEOUT, work).await;
                    return ended.ok().and_then(Result::ok).ok_or(failure);
                }
            }
        };
        self.put_back(connection, &outcome, cancel).await;
        outcome
    }

    /// A connection with an open transaction. That a connection was closed meanwhile shows here, before anything is
    /// done, so that another one can take its place.
    async fn begin(&self, read_only: bool) -> Result<C, TaskFailure> {
        while let Some(mut connection) = self.take() {
            match connection.begin(read_only).await {
                Ok(()) => return Ok(connection),
                Err(failure) if failure.error() == UNAVAILABLE => {}
                Err(failure) => return Err(failure),
            }
        }

        let mut connection = self.open().await?;
        connection.begin(read_only).await?;
        Ok(connection)
    }

    /// Keeps a connection for the next job, if nothing of this one is left on it.
    async fn put_back(
        &self,
        mut connection: C,
        outcome: &Result<String, TaskFailure>,
        cancel: impl Future<Output = ()>,
    ) {
        let clean = match outcome {
            Ok(_) => true,
            Err(failure) => REUSABLE.contains(&failure.error()) && connection.rollback().await.is_ok(),
        };
        if clean {
            self.idle().push(connection);
        } else {
            // The server may still send rows that nobody reads.
            let _ = timeout(CANCEL_TIMEOUT, cancel).await;
        }
    }

    fn take(&self) -> Option<C> {
        self.idle().pop()
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<C>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
