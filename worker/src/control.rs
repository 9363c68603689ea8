//! Control: messages about jobs that the worker has, or about the worker itself. They pass by the jobs that wait, so
//! that a worker that is paused or full obeys too.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use postern_types::{CancelMessage, Command};
use tokio::sync::mpsc;

use crate::cancels;
use crate::concurrency;
use crate::execution::Execution;
use crate::journal::{Cancel, Journal};
use crate::link::{ControlKind, ControlMessage, Link};

/// How long a cancellation is kept if its message has no end.
const LONGEST: SignedDuration = SignedDuration::from_hours(24);

/// Obeys control messages.
pub(crate) struct Control<L> {
    pub(crate) execution: Arc<Execution<L>>,
    pub(crate) journal: Journal,
    /// Where a concurrency is remembered.
    pub(crate) state_dir: PathBuf,
}

impl<L: Link> Control<L> {
    /// Takes messages until the link has ended.
    pub(crate) async fn run(&self, mut messages: mpsc::Receiver<ControlMessage<L::Receipt>>) {
        while let Some(message) = messages.recv().await {
            match message.kind {
                ControlKind::Cancel => self.cancel(message),
                ControlKind::Command => {
                    self.command(&message.payload);
                    self.execution.delivery.link.acknowledge(message.receipt);
                }
            }
        }
    }

    /// Cancels a job at once, and acknowledges the message when the journal has it. A journal that cannot be written
    /// holds up no other message.
    fn cancel(&self, message: ControlMessage<L::Receipt>) {
        let link = self.execution.delivery.link.clone();
        let cancel = match CancelMessage::parse(&message.payload) {
            Ok(CancelMessage { job_id, reason }) => {
                Cancel { job_id, reason, expires_at: expiry(message.expires_in) }
            }
            Err(invalid) => {
                tracing::warn!("a cancellation is ignored: {invalid}");
                return link.acknowledge(message.receipt);
            }
        };

        self.execution.cancels.add(cancel.clone());
        let journal = self.journal.clone();
        tokio::spawn(async move {
            journal.cancel(cancel, cancels::MOST).await;
            link.acknowledge(message.receipt);
        });
    }

    fn command(&self, payload: &[u8]) {
        let command = match Command::parse(payload) {
            Ok(command) => command,
            Err(invalid) => return tracing::warn!("a command is ignored: {invalid}"),
        };
        tracing::info!(?command, "command received");

        let obeyed = match command {
            Command::Pause => self.execution.pause.set(true),
            Command::Resume => self.execution.pause.set(false),
            Command::Concurrency { concurrency } => self.set_concurrency(concurrency.into()),
            Command::Upload { ref job_id, .. }
            | Command::Download { ref job_id, .. }
            | Command::Refused { ref job_id, .. } => {
                let job_id = job_id.clone();
                if !self.execution.claims.give(&job_id, command) {
                    tracing::info!(%job_id, "no job waits for this command any more");
                }
                Ok(())
            }
        };
        if let Err(error) = obeyed {
            tracing::error!("a command cannot be obeyed: {error}");
        }
    }

    fn set_concurrency(&self, concurrency: usize) -> std::io::Result<()> {
        self.execution.set_concurrency(concurrency)?;
        concurrency::remember(&self.state_dir, concurrency)
    }
}

/// When a message that is valid for this long expires.
fn expiry(expires_in: Option<Duration>) -> Timestamp {
    let valid = expires_in.and_then(|time| SignedDuration::try_from(time).ok()).unwrap_or(LONGEST);
    Timestamp::now().saturating_add(valid.min(LONGEST)).unwrap_or(Timestamp::MAX)
}
