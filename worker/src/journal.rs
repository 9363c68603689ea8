//! The journal: what the worker has accepted and what it owes, on the disk.
//!
//! A message is in the journal before the broker gets its acknowledgement, and an answer is in the journal before
//! it is published. A process that is killed, at whatever moment, therefore loses neither. The journal is a
//! SQLite file in the state directory; one process uses a directory at a time.
//!
//! A request that cannot be written (disk full, read-only, damaged) waits and is repeated until it can be. The
//! callers wait with it, so that the worker accepts nothing that it could lose.

mod entry;
mod lock;
mod spooled;
mod store;
mod writer;

use std::path::Path;
use std::sync::mpsc::{Sender, channel};

use bytes::Bytes;
use jiff::Timestamp;
use postern_types::JobId;
use rusqlite::Connection;
use tokio::sync::oneshot;

pub use entry::{
    Admitted, Answer, Cancel, Entry, Finished, JournalError, Memory, NewJob, Recovered, RecoveredJob,
    SpooledEntry,
};
pub use store::Retention;
pub(crate) use store::format;

use crate::health::Health;
use writer::{Message, Request, Writer};

/// A handle to the journal. Clones share one writer.
#[derive(Clone)]
pub struct Journal {
    handle: Handle,
    health: Health,
}

#[derive(Clone)]
enum Handle {
    Thread(Sender<Message>),
    /// Commits in the caller's task, so that tests decide at which await a worker dies.
    #[cfg(test)]
    Inline(std::sync::Arc<std::sync::Mutex<Writer>>),
}

impl Journal {
    /// Opens the journal of `directory`, creates it if it is not there, and returns what an earlier process left
    /// behind. The directory is made readable for this user only.
    pub fn open(
        directory: &Path,
        retention: Retention,
        health: Health,
    ) -> Result<(Self, Recovered), JournalError> {
        let writer = Writer::open(directory, retention, health.clone())?;
        let recovered = recover(&writer, directory)?;

        let (sender, receiver) = channel();
        std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || writer.run(&receiver))
            .map_err(|error| JournalError::Directory { path: directory.to_owned(), error })?;
        Ok((Self { handle: Handle::Thread(sender), health }, recovered))
    }

    #[cfg(test)]
    pub(crate) fn inline(directory: &Path, retention: Retention, health: Health) -> (Self, Recovered) {
        let writer = Writer::open(directory, retention, health.clone()).unwrap();
        let recovered = recover(&writer, directory).unwrap();
        let writer = std::sync::Arc::new(std::sync::Mutex::new(writer));
        (Self { handle: Handle::Inline(writer), health }, recovered)
    }

    /// Notes messages that have arrived, in one transaction. One reply for each, in the same order.
    pub async fn admit(&self, entries: Vec<Entry>) -> Vec<Admitted> {
        self.write(move |db| store::admit(db, &entries, Timestamp::now())).await
    }

    /// Notes that the handler is about to run for all attempts with this kind and key. After a crash they count
    /// as interrupted.
    pub async fn start(&self, kind: String, key: String) {
        self.write(move |db| store::start(db, &kind, &key)).await;
    }

    /// The JSON text of the result that is remembered for this kind and key.
    pub async fn recall(&self, kind: String, key: String) -> Option<String> {
        self.write(move |db| store::recall(db, &kind, &key)).await
    }

    /// Puts the answers of jobs into the outbox, and remembers a result. One answer for each job, in the same
    /// order.
    pub async fn finish(&self, finished: Vec<Finished>, memory: Option<Memory>) -> Vec<Answer> {
        self.write(move |db| store::finish(db, &finished, memory.as_ref(), Timestamp::now())).await
    }

    /// Notes that the result of a run is a file.
    pub async fn spool(&self, entry: SpooledEntry) {
        self.write(move |db| spooled::add(db, &entry, Timestamp::now())).await;
    }

    /// Forgets that the result of a run is a file.
    pub async fn unspool(&self, kind: String, key: String) {
        self.write(move |db| spooled::remove(db, &kind, &key)).await;
    }

    /// Keeps the cancellation of a job until it expires. Of more than `most`, the oldest are forgotten.
    pub async fn cancel(&self, cancel: Cancel, most: usize) {
        self.write(move |db| store::cancel(db, &cancel, most)).await;
    }

    /// Notes the last progress of jobs, each a JSON text. The note shares the sync of the next request.
    pub async fn progress(&self, progress: Vec<(JobId, String)>) {
        self.submit(Message::Later, move |db| store::progress(db, &progress)).await;
    }

    /// Puts another message in the place of one that the broker does not take.
    pub async fn replace(&self, id: i64, payload: Bytes) {
        self.write(move |db| store::replace(db, id, &payload)).await;
    }

    /// Notes that the broker has a message of the outbox, or that nobody waits for it any more. The note shares the sync
    /// of the next request: after a crash without it, the message is sent again, which does no harm.
    pub async fn sent(&self, id: i64) {
        self.submit(Message::Later, move |db| store::sent(db, id)).await;
    }

    /// Lets the file have this many pages and no more, as a full disk would; at least those that it has now.
    #[cfg(test)]
    pub(crate) async fn limit_pages(&self, pages: i64) {
        self.write(move |db| {
            db.pragma_update_and_check(None, "max_page_count", pages, |row| row.get::<_, i64>(0))
        })
        .await;
    }

    /// Closes the file and frees the directory. A request that could not be written until now is dropped.
    pub async fn close(self) {
        match self.handle {
            Handle::Thread(sender) => {
                let (closed, wait) = oneshot::channel();
                if sender.send(Message::Close(closed)).is_ok() {
                    let _ = wait.await;
                }
            }
            #[cfg(test)]
            Handle::Inline(_) => {}
        }
    }

    /// Runs `operation` in a transaction and returns its outcome when the transaction is on the disk.
    async fn write<T, F>(&self, operation: F) -> T
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.submit(Message::Request, operation).await
    }

    async fn submit<T, F>(&self, message: fn(Box<dyn Request>) -> Message, operation: F) -> T
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (reply, outcome) = oneshot::channel();
        let request = Box::new(Operation { run: operation, outcome: None, reply });
        match &self.handle {
            // A writer that has ended drops the request, which ends the wait below.
            Handle::Thread(sender) => drop(sender.send(message(request))),
            #[cfg(test)]
            Handle::Inline(writer) => writer::commit_inline(writer, request).await,
        }

        if let Ok(outcome) = outcome.await {
            return outcome;
        }
        // Nothing is durable any more: the requester must not continue as if it were.
        self.health.set_journal_problem(Some("its writer has ended".into()));
        std::future::pending().await
    }
}

fn recover(writer: &Writer, directory: &Path) -> Result<Recovered, JournalError> {
    store::recover(writer.db()).map_err(|error| JournalError::Store { file: directory.to_owned(), error })
}

struct Operation<F, T> {
    run: F,
    outcome: Option<T>,
    reply: oneshot::Sender<T>,
}

impl<T: Send, F: FnMut(&Connection) -> rusqlite::Result<T> + Send> Request for Operation<F, T> {
    fn apply(&mut self, db: &Connection) -> rusqlite::Result<()> {
        self.outcome = Some((self.run)(db)?);
        Ok(())
    }

    fn complete(self: Box<Self>) {
        if let Some(outcome) = self.outcome {
            // A requester that no longer waits needs no outcome.
            let _ = self.reply.send(outcome);
        }
    }
}

#[cfg(test)]
mod tests;
