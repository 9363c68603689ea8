//! The directory of the journal: whether the worker can write to it, and how much room is left.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use super::Step;
use crate::config::Config;

/// Below this, the journal of a busy worker may fill the disk before somebody looks.
const LEAST_ROOM: u64 = 64 * 1024 * 1024;

pub(super) fn check(config: &Config) -> Step {
    let directory = &config.state_dir;
    let shown = directory.display();
    if !directory.exists() {
        return Ok(format!("{shown} does not exist yet; the worker makes it when it starts"));
    }

    write_probe(directory).map_err(|error| {
        format!(
            "this user cannot write to {shown}: {error}; run doctor as the worker's user, or set --state-dir"
        )
    })?;
    let room = room(directory).map_err(|error| format!("cannot tell how much room {shown} has: {error}"))?;
    let megabytes = room / (1024 * 1024);
    if room < LEAST_ROOM {
        return Err(format!(
            "{shown} has {megabytes} MB left; the worker stops accepting jobs when it cannot write its journal: free \
             at least 64 MB"
        ));
    }
    Ok(format!("ok, {shown} is writable and has {megabytes} MB left"))
}

/// Writes a small file to the disk itself, and removes it.
fn write_probe(directory: &Path) -> io::Result<()> {
    let path = directory.join(format!(".doctor-{}", std::process::id()));
    let written = probe(&path);
    let removed = fs::remove_file(&path);
    written.and(removed)
}

fn probe(path: &Path) -> io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(&[0; 4_096])?;
    file.sync_all()
}

fn room(directory: &Path) -> io::Result<u64> {
    let statistics = rustix::fs::statvfs(directory)?;
    Ok(statistics.f_bavail * statistics.f_frsize)
}
