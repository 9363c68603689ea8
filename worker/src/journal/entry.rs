//! What the journal stores and what it answers.

use std::path::PathBuf;

use bytes::Bytes;
use jiff::Timestamp;
use postern_types::JobId;

/// A message that has arrived and must be on the disk before the broker may forget it.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A job.
    Job(NewJob),
    /// The report about a message that is not a job. It goes straight to the outbox.
    Report {
        /// The same for each delivery of the message.
        id: String,
        /// The message for the answer topic.
        payload: Bytes,
    },
}

/// A job that has arrived.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// The job's public name: the same for each delivery of one attempt.
    pub job_id: String,
    /// The handler's kind.
    pub kind: String,
    /// The same for all attempts of one entry of a state.
    pub key: String,
    /// The message as it arrived.
    pub message: Bytes,
    /// Whether a handler already runs for this kind and key. The journal alone cannot tell: the attempt that started
    /// the handler may have been answered at its deadline.
    pub started: bool,
}

/// What became of an [`Entry`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admitted {
    /// The journal did not know the job. It is now on the disk and must run.
    New,
    /// The job waits, runs, or has an answer that is still to be sent; or the message's report was made before.
    Known,
    /// The job has run and its answer was sent; send it again.
    Answered(Answer),
    /// The report is in the outbox; send it.
    Report(Answer),
}

/// A message in the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The row in the outbox.
    pub id: i64,
    /// The message for the answer topic.
    pub payload: Bytes,
    /// The time after which nobody waits for the answer.
    pub deadline: Option<Timestamp>,
}

/// The end of one attempt.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The attempt's public name.
    pub job_id: String,
    /// The message for the answer topic.
    pub payload: Bytes,
    /// The time after which nobody waits for the answer.
    pub deadline: Option<Timestamp>,
}

/// A result that later attempts with the same kind and key receive without another run.
#[derive(Debug, Clone)]
pub struct Memory {
    /// The handler's kind.
    pub kind: String,
    /// The idempotency key.
    pub key: String,
    /// The result's JSON text.
    pub result: String,
}

/// A result that is too large for a message: a file in the state directory, for the run of this kind and key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpooledEntry {
    /// The handler's kind.
    pub kind: String,
    /// The idempotency key.
    pub key: String,
    /// The file's name.
    pub file: String,
    /// The file's size.
    pub bytes: u64,
    /// The file's SHA-256, in lower-case hexadecimal digits.
    pub sha256: String,
    /// The result's content type.
    pub content_type: String,
}

/// What an earlier process left behind.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Jobs without an answer, in the order of their arrival.
    pub jobs: Vec<RecoveredJob>,
    /// Answers that the broker has not acknowledged.
    pub answers: Vec<Answer>,
    /// Cancellations that have not expired, the oldest first.
    pub cancels: Vec<Cancel>,
    /// Results that are files.
    pub spooled: Vec<SpooledEntry>,
}

/// The cancellation of a job, which the worker may have or may still get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cancel {
    /// The job.
    pub job_id: JobId,
    /// Why, for people.
    pub reason: String,
    /// The time after which the job cannot arrive any more.
    pub expires_at: Timestamp,
}

/// A job without an answer.
#[derive(Debug)]
pub struct RecoveredJob {
    /// The message as it arrived.
    pub message: Bytes,
    /// Whether the handler had been started. Noted only for handlers that must not run twice.
    pub started: bool,
    /// The last progress of the handler: a JSON text.
    pub progress: Option<String>,
}

/// Why the journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process uses the directory.
    #[error("{} is in use by process {pid}; give each worker a state_dir of its own, or stop that process", directory.display())]
    InUse {
        /// The state directory.
        directory: PathBuf,
        /// The process that holds the lock.
        pid: String,
    },
    /// The file was written by a newer version of the worker.
    #[error("{} has format {found}; this worker knows formats up to {known}: install the newer worker again", file.display())]
    TooNew {
        /// The journal's file.
        file: PathBuf,
        /// The file's format version.
        found: i64,
        /// The newest version that this worker knows.
        known: i64,
    },
    /// The directory cannot be created or its lock file cannot be written.
    #[error("{}: {error}; the worker needs a directory that it can write to", path.display())]
    Directory {
        /// The file or directory.
        path: PathBuf,
        /// The operating system's reason.
        error: std::io::Error,
    },
    /// SQLite cannot open or read the file.
    #[error("{}: {error}", file.display())]
    Store {
        /// The journal's file.
        file: PathBuf,
        /// SQLite's reason.
        error: rusqlite::Error,
    },
    /// The check of the file found damage.
    #[error("{} is damaged: {finding}; restore it from a backup, or move it away to start without its jobs", file.display())]
    Damaged {
        /// The journal's file.
        file: PathBuf,
        /// The first finding of SQLite's check.
        finding: String,
    },
}

impl JournalError {
    /// Whether another attempt to open the journal may succeed without a change of the configuration: the disk
    /// may get room again, and an operator may restore the file.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::InUse { .. } | Self::TooNew { .. } => false,
            Self::Directory { .. } | Self::Store { .. } | Self::Damaged { .. } => true,
        }
    }
}
