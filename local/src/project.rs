//! The repository, its tools, and the programs that cargo has built.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::error::Error;

/// The paths of the repository, its Python interpreter and the built programs.
#[derive(Debug, Clone)]
pub struct Project {
    root: PathBuf,
    python: PathBuf,
    binaries: PathBuf,
}

impl Project {
    /// This repository, with the programs beside the running executable.
    pub fn here() -> Result<Self, Error> {
        // The repository that the command runs in: a copy of it can share the target directory, and with it this program.
        let here = std::env::current_dir()?;
        let around = here.ancestors().find(|folder| folder.join("local/emulator/launch.py").exists());
        let built = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
        let root = around.unwrap_or(built).to_owned();
        let mut binaries = std::env::current_exe()?;
        binaries.pop();
        // The executable of a test is one folder deeper.
        if binaries.ends_with("deps") {
            binaries.pop();
        }

        let python = root.join(".postern/venv/bin/python");
        if !python.exists() {
            return Err(Error::Program {
                what: python.display().to_string(),
                why: "the tools are not installed; run `make tools`".into(),
                log: None,
            });
        }

        Ok(Self { root, python, binaries })
    }

    /// The path of a file of the repository.
    pub fn file(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// An empty folder in `.postern` for logs, certificates and notes. What it held before is deleted.
    pub fn fresh_folder(&self, name: &str) -> Result<PathBuf, Error> {
        let folder = self.root.join(".postern").join(name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).map_err(Error::file(&folder))?;
        Ok(folder)
    }

    /// The folder of the built programs.
    pub fn binaries(&self) -> &Path {
        &self.binaries
    }

    /// The path of a built program.
    pub fn program(&self, name: &str) -> PathBuf {
        self.binaries.join(name)
    }

    /// The command that runs a Python script of the repository with the pinned packages.
    pub fn script(&self, path: &str) -> Command {
        let mut command = Command::new(&self.python);
        command.arg(self.file(path)).env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::null());
        command
    }
}

/// Runs a command to its end and returns its standard output. `what` names it in errors.
pub(crate) async fn output(what: &str, command: &mut Command) -> Result<String, Error> {
    let program = |why: String| Error::Program { what: what.into(), why, log: None };
    let output = command.kill_on_drop(true).output().await.map_err(|error| program(error.to_string()))?;

    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(program(stderr.lines().last().unwrap_or("it ended without any output").to_owned()));
    }

    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
