use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::Error;

/// Where things are: the repository, its tools, the programs that were built.
#[derive(Debug, Clone)]
pub struct Project {
    root: PathBuf,
    python: PathBuf,
    binaries: PathBuf,
}

impl Project {
    /// This repository, with the programs that lie beside the running one.
    pub fn here() -> Result<Self, Error> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_owned();
        let mut binaries = std::env::current_exe()?;
        binaries.pop();
        // A test's own executable is one folder deeper.
        if binaries.ends_with("deps") {
            binaries.pop();
        }
        let python = root.join(".postern/venv/bin/python");
        if !python.exists() {
            return Err(Error::Program {
                what: python.display().to_string(),
                why: "the tools are not installed; `make tools` does it".into(),
                log: None,
            });
        }
        Ok(Self { root, python, binaries })
    }

    /// A file of the repository.
    pub fn file(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// A folder of this name for logs, certificates and notes, empty.
    pub fn fresh_folder(&self, name: &str) -> Result<PathBuf, Error> {
        let folder = self.root.join(".postern").join(name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// The folder of the programs.
    pub fn binaries(&self) -> &Path {
        &self.binaries
    }

    /// One of the workspace's programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.binaries.join(name)
    }

    /// A Python script of the repository, to be run with the pinned packages.
    pub fn script(&self, path: &str) -> Command {
        let mut command = Command::new(&self.python);
        command.arg(self.file(path)).env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::null());
        command
    }
}

/// Runs a command to its end; its standard output.
pub(crate) async fn output(what: &str, command: &mut Command) -> Result<String, Error> {
    let program = |why: String| Error::Program { what: what.into(), why, log: None };
    let output = command.kill_on_drop(true).output().await.map_err(|error| program(error.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(program(said.lines().last().unwrap_or("it ended without a word").to_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
