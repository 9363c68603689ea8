//! Control: messages about jobs that the worker has, or about the worker itself. They pass by the jobs that wait, so
//! that a worker that is paused or full obeys too.

use std::sync::Arc;

use postern_types::Command;
use tokio::sync::mpsc;

use crate::delivery::Delivery;
use crate::grants::Grants;
use crate::link::{ControlKind, ControlMessage, Link};
use crate::pause::Pause;

/// Obeys control messages.
pub(crate) struct Control<L> {
    pub(crate) delivery: Arc<Delivery<L>>,
    pub(crate) grants: Arc<Grants>,
    pub(crate) pause: Pause,
}

impl<L: Link> Control<L> {
    /// Takes messages until the link has ended. A message is acknowledged when its effect would survive a crash.
    pub(crate) async fn run(&self, mut messages: mpsc::Receiver<ControlMessage<L::Receipt>>) {
        while let Some(message) = messages.recv().await {
            match message.kind {
                ControlKind::Cancel => {}
                ControlKind::Command => self.command(&message.payload),
            }
            self.delivery.link.acknowledge(message.receipt);
        }
    }

    fn command(&self, payload: &[u8]) {
        let command = match Command::parse(payload) {
            Ok(command) => command,
            Err(invalid) => return tracing::warn!("a command is ignored: {invalid}"),
        };
        tracing::info!(command = ?command, "command received");

        match command {
            Command::Pause => self.set_paused(true),
            Command::Resume => self.set_paused(false),
            Command::Concurrency { .. } => {}
            Command::Upload { ref job_id, .. }
            | Command::Download { ref job_id, .. }
            | Command::Refused { ref job_id, .. } => {
                let job_id = job_id.clone();
                if !self.grants.give(&job_id, command) {
                    tracing::info!(%job_id, "no job waits for this command any more");
                }
            }
        }
    }

    fn set_paused(&self, paused: bool) {
        if let Err(error) = self.pause.set(paused) {
            tracing::error!(paused, "the pause cannot be changed: {error}");
        }
    }
}
