//! One process a state directory. The lock belongs to the process and not to the file: a process that dies
//! leaves a file with its pid but no lock.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::Path;

use super::entry::JournalError;

/// Holds the state directory until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

impl Lock {
    /// Locks `directory/lock` and writes the pid of this process into it.
    pub(super) fn acquire(directory: &Path) -> Result<Self, JournalError> {
        let path = directory.join("lock");
        let failed = |error| JournalError::Directory { path: path.clone(), error };
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(failed)?;

        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let _ = file.read_to_string(&mut pid);
                let directory = directory.to_owned();
                return Err(JournalError::InUse { directory, pid: pid.trim().to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }

        file.set_len(0).map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { file })
    }
}

impl Drop for Lock {
    /// Closing the file would not do: a program that a handler starts has a copy of it until it is executed.
    fn drop(&mut self) {
        // A lock that cannot be given back ends with the process.
        let _ = self.file.unlock();
    }
}
