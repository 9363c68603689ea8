//! The note that `up` leaves for `run` and `down`: what runs, and where.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use postern_local::{Error, Outputs, Project};
use serde::{Deserialize, Serialize};

/// The folder in `.postern` of the stack that `up` starts.
pub(crate) const FOLDER: &str = "up";

/// The name of the proxy among the processes.
pub(crate) const PROXY: &str = "proxy";

/// What `up` has started.
#[derive(Serialize, Deserialize)]
pub(crate) struct Note {
    /// The URL of the emulator.
    pub(crate) endpoint: String,
    /// The deployed stack.
    pub(crate) outputs: Outputs,
    /// The processes in the order in which they are stopped: the worker disconnects while its broker still runs.
    pub(crate) processes: Vec<Started>,
    /// Folders outside of the project that the processes use, and that are deleted with the note.
    #[serde(default)]
    pub(crate) folders: Vec<PathBuf>,
}

/// A process that `up` has started.
#[derive(Serialize, Deserialize)]
pub(crate) struct Started {
    /// The name for people.
    pub(crate) name: String,
    /// The process id.
    pub(crate) id: u32,
    /// A word of the command line. The system may give the id to another process after the end of this one.
    pub(crate) word: String,
    /// The log file.
    pub(crate) log: PathBuf,
}

impl Note {
    /// The note of the last `up`, unless `down` has removed it.
    pub(crate) fn read(project: &Project) -> Result<Option<Self>, Error> {
        match fs::read(file(project)) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes the note.
    pub(crate) fn write(&self, project: &Project) -> Result<(), Error> {
        Ok(fs::write(file(project), serde_json::to_vec_pretty(self).map_err(std::io::Error::from)?)?)
    }

    /// The worker's log.
    pub(crate) fn worker_log(&self) -> Option<&Path> {
        self.processes.iter().find(|process| process.name == "worker").map(|process| process.log.as_path())
    }

    /// The processes that have ended since `up`.
    pub(crate) fn ended(&self) -> Vec<&Started> {
        self.processes.iter().filter(|process| !process.runs()).collect()
    }

    /// Stops what still runs and removes the note.
    pub(crate) fn stop(&self, project: &Project) -> Result<(), Error> {
        for process in &self.processes {
            if process.runs() {
                Command::new("kill").arg(process.id.to_string()).status()?;
            }
            while process.runs() {
                std::thread::sleep(Duration::from_millis(20));
            }
        }

        for folder in &self.folders {
            if folder.exists() {
                fs::remove_dir_all(folder)?;
            }
        }
        Ok(fs::remove_file(file(project))?)
    }

    /// Whether the console has a proxy, so that it is live.
    pub(crate) fn is_live(&self) -> bool {
        self.processes.iter().any(|process| process.name == PROXY)
    }
}

impl Started {
    /// Whether the process still runs.
    pub(crate) fn runs(&self) -> bool {
        // Linux has the command line in a file, which is empty for a process that has ended but is not yet reaped.
        let command = if Path::new("/proc/self").exists() {
            fs::read(format!("/proc/{}/cmdline", self.id)).unwrap_or_default()
        } else {
            let ps = Command::new("ps").args(["-o", "command=", "-p", &self.id.to_string()]).output();
            ps.map(|ps| ps.stdout).unwrap_or_default()
        };
        String::from_utf8_lossy(&command).contains(&self.word)
    }
}

impl std::fmt::Display for Started {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "the {} (process {}, log {})", self.name, self.id, self.log.display())
    }
}

fn file(project: &Project) -> PathBuf {
    project.file(".postern").join(FOLDER).join("note.json")
}
