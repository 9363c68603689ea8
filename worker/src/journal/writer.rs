//! The journal's one writer: a thread that commits all waiting requests in one transaction.
//!
//! A sync costs about as much for a hundred requests as for one. While one transaction is being synced, the
//! next requests wait in the queue, and the next transaction takes all of them.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode};
use tokio::sync::oneshot;

use super::entry::JournalError;
use super::lock::Lock;
use super::store::{self, Retention};
use crate::health::{Counter, Health};

/// Most requests in one transaction.
const BATCH: usize = 1_000;
/// How often old entries are forgotten.
const FORGET_EVERY: Duration = Duration::from_mins(1);
/// The first and the longest wait before a failed transaction is repeated.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How long a request that can wait does wait for one that cannot, with which it shares a sync.
const LATER: Duration = Duration::from_millis(50);

/// A request to the journal.
pub(super) trait Request: Send {
    /// Changes the file. Called again if the transaction fails.
    fn apply(&mut self, db: &Connection) -> rusqlite::Result<()>;
    /// Tells the requester the outcome, after the change is on the disk.
    fn complete(self: Box<Self>);
}

/// What the writer's thread receives.
pub(super) enum Message {
    /// Commit this.
    Request(Box<dyn Request>),
    /// Commit this with the next request, or soon.
    Later(Box<dyn Request>),
    /// End, and drop the sender when the file is closed.
    Close(oneshot::Sender<()>),
}

/// The open file and the lock on its directory.
pub(super) struct Writer {
    db: Connection,
    directory: PathBuf,
    retention: Retention,
    health: Health,
    _lock: Lock,
}

impl Writer {
    /// Locks the directory and opens its journal.
    pub(super) fn open(directory: &Path, retention: Retention, health: Health) -> Result<Self, JournalError> {
        let failed = |error| JournalError::Directory { path: directory.to_owned(), error };
        std::fs::create_dir_all(directory).map_err(failed)?;
        restrict(directory).map_err(failed)?;
        let lock = Lock::acquire(directory)?;

        let mut writer = Self {
            db: store::open(directory)?,
            directory: directory.to_owned(),
            retention,
            health,
            _lock: lock,
        };
        writer.forget();
        Ok(writer)
    }

    pub(super) fn db(&self) -> &Connection {
        &self.db
    }

    /// Commits requests until the journal is closed.
    pub(super) fn run(mut self, messages: &Receiver<Message>) {
        let (mut waiting, mut retry_in) = (Vec::new(), None);
        let mut forget_at = Instant::now() + FORGET_EVERY;

        loop {
            let until = retry_in.map_or(forget_at, |wait| Instant::now() + wait);
            let closed = collect(messages, &mut waiting, until, retry_in.is_some());
            if Instant::now() >= forget_at {
                self.forget();
                forget_at = Instant::now() + FORGET_EVERY;
            }

            waiting = self.commit(waiting);
            retry_in = (!waiting.is_empty())
                .then(|| retry_in.map_or(RETRY.0, |wait: Duration| (wait * 2).min(RETRY.1)));
            if let Some(closed) = closed {
                // The sender goes last: when it is gone, the file and the directory are free.
                drop(self);
                drop(closed);
                return;
            }
        }
    }

    /// Commits requests, all at once if possible. Returns those that failed.
    pub(super) fn commit(&mut self, mut requests: Vec<Box<dyn Request>>) -> Vec<Box<dyn Request>> {
        if requests.is_empty() {
            return requests;
        }
        if self.transaction(&mut requests).is_ok() {
            self.completed(requests);
            return Vec::new();
        }

        // One by one: a full disk may have room for a deletion but not for a job. The last error is the one that
        // is reported.
        let (mut failed, mut last_error) = (Vec::new(), None);
        for request in requests {
            let mut one = vec![request];
            match self.transaction(&mut one) {
                Ok(()) => self.completed(one),
                Err(error) => {
                    last_error = Some(error);
                    failed.append(&mut one);
                }
            }
        }
        if let Some(error) = last_error {
            self.failing(&error);
        }
        failed
    }

    fn transaction(&mut self, requests: &mut [Box<dyn Request>]) -> rusqlite::Result<()> {
        let (changes, start) = (self.db.total_changes(), Instant::now());
        self.db.execute_batch("BEGIN IMMEDIATE")?;
        let applied = requests
            .iter_mut()
            .try_for_each(|request| request.apply(&self.db))
            .and_then(|()| self.db.execute_batch("COMMIT"));
        let took = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.health.add(Counter::JournalMicroseconds, took);

        if applied.is_err() {
            // SQLite has already rolled back after some errors: then there is nothing left to do.
            let _ = self.db.execute_batch("ROLLBACK");
            self.health.add(Counter::JournalFailures, 1);
        } else if self.db.total_changes() != changes {
            self.health.add(Counter::JournalCommits, 1);
        }
        applied
    }

    fn completed(&mut self, requests: Vec<Box<dyn Request>>) {
        if self.health.set_journal_problem(None) {
            tracing::info!("the journal can be written again");
        }
        self.health.add(Counter::JournalRequests, requests.len() as u64);
        for request in requests {
            request.complete();
        }
    }

    fn failing(&mut self, error: &rusqlite::Error) {
        let mut reason = format!("{}: {error}", self.directory.display());
        // The open file is usable after these errors. After all others (damage, a file system that has gone) a
        // new connection may find what an operator has repaired.
        let keep = matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::DiskFull | ErrorCode::ReadOnly | ErrorCode::DatabaseBusy)
        );
        if !keep {
            match store::open(&self.directory) {
                Ok(db) => self.db = db,
                // This error says what an operator can do.
                Err(error) => reason = error.to_string(),
            }
        }

        if self.health.set_journal_problem(Some(reason.clone())) {
            tracing::error!(reason, "the journal cannot be written: no job is accepted until it can");
        }
    }

    fn forget(&mut self) {
        let forgotten = store::forget(&self.db, self.retention, Timestamp::now());
        if let Err(error) = forgotten {
            tracing::warn!("old entries of the journal cannot be removed: {error}");
        }
    }
}

/// Waits for requests until `until`, and for the first urgent request only unless `all` is set. Then takes what else is
/// in the queue. Returns the sender of a request to close.
fn collect(
    messages: &Receiver<Message>,
    waiting: &mut Vec<Box<dyn Request>>,
    mut until: Instant,
    all: bool,
) -> Option<oneshot::Sender<()>> {
    loop {
        match messages.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Message::Request(request)) => waiting.push(request),
            Ok(Message::Later(request)) => {
                waiting.push(request);
                if !all {
                    until = until.min(Instant::now() + LATER);
                }
                continue;
            }
            Ok(Message::Close(closed)) => return Some(closed),
            Err(RecvTimeoutError::Timeout) => return None,
            // Every handle is gone: close, and tell nobody.
            Err(RecvTimeoutError::Disconnected) => return Some(oneshot::channel().0),
        }
        if !all {
            break;
        }
    }

    while waiting.len() < BATCH {
        match messages.try_recv() {
            Ok(Message::Request(request) | Message::Later(request)) => waiting.push(request),
            Ok(Message::Close(closed)) => return Some(closed),
            Err(_) => break,
        }
    }
    None
}

/// Commits in the caller's task. The task can be dropped before and after the transaction, but not within it.
#[cfg(test)]
pub(super) async fn commit_inline(writer: &std::sync::Mutex<Writer>, request: Box<dyn Request>) {
    let mut waiting = vec![request];
    tokio::task::yield_now().await;
    loop {
        waiting = writer.lock().unwrap().commit(waiting);
        if waiting.is_empty() {
            return tokio::task::yield_now().await;
        }
        tokio::time::sleep(RETRY.0).await;
    }
}

/// The journal contains task tokens: only the worker's user may read it.
#[cfg(unix)]
fn restrict(directory: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700))
}

/// On other systems the folder inherits its permissions: an operator restricts it.
#[cfg(not(unix))]
fn restrict(_: &Path) -> std::io::Result<()> {
    Ok(())
}
