use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Error;

/// A program in the background that ends with its owner. What it says goes to a file.
#[derive(Debug)]
pub struct Process {
    what: String,
    child: Child,
    log: PathBuf,
}

/// How long a program may take to end after a SIGTERM.
const GRACE: Duration = Duration::from_secs(30);

impl Process {
    /// Starts `command`; both its outputs go to `log`.
    pub fn start(what: &str, command: &mut Command, log: &Path) -> Result<Self, Error> {
        let out = File::create(log)?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let child = command.spawn().map_err(|error| Error::Program {
            what: what.into(),
            why: error.to_string(),
            log: None,
        })?;
        Ok(Self { what: what.into(), child, log: log.into() })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// The error of a program that ended when it should not have: its last words.
    pub fn failure(&self) -> Error {
        let said = self.said();
        let why = said.lines().last().unwrap_or("it ended without a word").to_owned();
        Error::Program { what: self.what.clone(), why, log: Some(self.log.clone()) }
    }

    /// Asks it to end (SIGTERM) and waits; ends it by force after half a minute.
    pub fn stop(&mut self) -> Option<ExitStatus> {
        self.signal(Signal::TERM);
        let end = Instant::now() + GRACE;
        while self.ended().is_none() && Instant::now() < end {
            thread::sleep(Duration::from_millis(10));
        }
        self.kill();
        self.ended()
    }

    /// Ends it at once, as a power cut would (SIGKILL).
    pub fn kill(&mut self) {
        if self.ended().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    /// Lets it live on when its owner goes; its id and log are known elsewhere.
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
