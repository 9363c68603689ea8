//! Pausing: no new job starts while the worker is paused. Running jobs continue, and so do the heartbeats of jobs
//! that the worker already holds; new messages stay with the broker, up to a number (see `intake`).
//!
//! The worker is paused while the file `paused` is in its state directory, so that a pause survives a restart. An
//! operator creates and removes the file by hand, by the signals SIGUSR1 (pause) and SIGUSR2 (resume), or by the commands
//! `PAUSE` and `RESUME` that the cloud sends.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;

use crate::health::Health;

/// Whether the worker is paused. Clones share the same state.
#[derive(Debug, Clone)]
pub struct Pause {
    file: PathBuf,
    paused: Arc<watch::Sender<bool>>,
    health: Health,
}

impl Pause {
    /// Reads the state from the directory.
    pub fn new(state_dir: &Path, health: Health) -> Self {
        let pause = Self { file: state_dir.join("paused"), paused: Arc::default(), health };
        pause.refresh();
        pause
    }

    /// Pauses or resumes the worker, now and after a restart.
    pub fn set(&self, paused: bool) -> io::Result<()> {
        let done = if paused { fs::write(&self.file, "") } else { fs::remove_file(&self.file) };
        self.refresh();
        match done {
            Err(error) if !paused && error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// Reads the state from the directory again, where an operator may have changed it.
    pub fn refresh(&self) {
        let paused = self.file.exists();
        let changed = self.paused.send_if_modified(|current| std::mem::replace(current, paused) != paused);
        if changed {
            tracing::info!(paused, file = %self.file.display(), "pause changed");
        }
        self.health.set_paused(paused);
    }

    /// Whether the worker is paused.
    pub(crate) fn is_paused(&self) -> bool {
        *self.paused.borrow()
    }

    /// Waits until the worker is not paused.
    pub(crate) async fn resumed(&self) {
        // The sender lives as long as this value: there is no error to handle.
        let _ = self.paused.subscribe().wait_for(|paused| !paused).await;
    }

    /// Waits until the worker is paused if it was not, or until it is not if it was.
    pub(crate) async fn changed_from(&self, paused: bool) {
        let _ = self.paused.subscribe().wait_for(|now| *now != paused).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_survives_a_restart_and_ends_when_the_file_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let health = Health::new();
        Pause::new(directory.path(), health.clone()).set(true).unwrap();

        let after_restart = Pause::new(directory.path(), health.clone());
        assert!(after_restart.is_paused() && health.is_paused());

        fs::remove_file(directory.path().join("paused")).unwrap();
        after_restart.refresh();
        assert!(!after_restart.is_paused() && !health.is_paused());
        after_restart.set(false).unwrap();
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_an_error() {
        let nowhere = Path::new("/nonexistent/state");
        assert!(Pause::new(nowhere, Health::new()).set(true).is_err());
    }
}
