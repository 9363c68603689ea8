//! Programs in the background, each with its log file.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::error::Error;

/// A program in the background. It ends when this value is dropped, and its output goes to a log file.
#[derive(Debug)]
pub struct Process {
    what: String,
    child: Child,
    log: PathBuf,
}

/// How long a program may take to end after SIGTERM before it is killed.
const GRACE: Duration = Duration::from_secs(30);

impl Process {
    /// Starts `command`. Its standard output and standard error go to the file `log`; `what` names it in errors.
    pub fn start(what: &str, command: &mut Command, log: &Path) -> Result<Self, Error> {
        let out = File::create(log).map_err(Error::file(log))?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let child = command.spawn().map_err(|error| Error::Program {
            what: what.into(),
            why: error.to_string(),
            log: None,
        })?;
        Ok(Self { what: what.into(), child, log: log.into() })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The log file.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The output so far.
    pub fn logs(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The exit status, if the program has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// The error of a program that ended unexpectedly: the last line of its output.
    pub fn failure(&self) -> Error {
        let logs = self.logs();
        let why = logs.lines().last().unwrap_or("it ended without any output").to_owned();

        Error::Program { what: self.what.clone(), why, log: Some(self.log.clone()) }
    }

    /// Sends SIGTERM and waits for the end; kills the program after 30 seconds.
    pub fn stop(&mut self) -> Option<ExitStatus> {
        self.signal(Signal::TERM);

        let end = Instant::now() + GRACE;
        while self.ended().is_none() && Instant::now() < end {
            thread::sleep(Duration::from_millis(10));
        }

        self.kill();
        self.ended()
    }

    /// Sends SIGKILL: the program ends at once, as in a power cut.
    pub fn kill(&mut self) {
        if self.ended().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    /// Leaves the program running when its owner ends.
    pub fn leave(self) {
        std::mem::forget(self);
    }

    fn signal(&mut self, signal: Signal) {
        if self.ended().is_none()
            && let Some(pid) = i32::try_from(self.id()).ok().and_then(Pid::from_raw)
        {
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}
