//! The identity of a worker: the files that `infra/enroll_worker.py` writes.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::Error;
use crate::process::Process;

/// The folder with a worker's certificate, key and configuration.
#[derive(Debug, Clone)]
pub struct WorkerFiles {
    pub(crate) folder: PathBuf,
}

impl WorkerFiles {
    /// The files in this folder.
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The configuration file, for `--config`.
    pub fn config(&self) -> PathBuf {
        self.folder.join("worker.toml")
    }

    /// The client certificate.
    pub fn cert(&self) -> PathBuf {
        self.folder.join("cert.pem")
    }

    /// The certificate's private key.
    pub fn key(&self) -> PathBuf {
        self.folder.join("key.pem")
    }

    /// The log of a worker that [`WorkerFiles::start`] started.
    pub fn log(&self) -> PathBuf {
        self.folder.join("worker.log")
    }

    /// The command that runs `program` as this worker.
    pub fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.arg("--config").arg(self.config()).args(arguments);
        // Two workers on one machine must not share a state directory.
        command.env("POSTERN_STATE_DIR", self.folder.join("state"));
        command
    }

    /// Starts `program` as this worker.
    pub fn start(&self, program: &Path, arguments: &[&str]) -> Result<Process, Error> {
        Process::start("the worker", &mut self.command(program, arguments), &self.log())
    }
}
