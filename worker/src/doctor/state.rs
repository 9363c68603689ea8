//! The directory of the journal: whether the worker can write to it, how much room is left, and whether this version
//! can read the journal.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use super::Step;
use crate::concurrency;
use crate::config::Config;
use crate::journal;

/// Below this, the journal of a busy worker may fill the disk before somebody looks.
const LEAST_ROOM: u64 = 64 * 1024 * 1024;

pub(super) fn check(config: &Config) -> Step {
    let directory = &config.state_dir;
    let shown = directory.display();
    // Making it would leave it with the wrong owner where doctor runs as another user.
    if !directory.exists() {
        return Ok(format!("{shown} does not exist yet; the worker makes it when it starts"));
    }

    write_probe(directory).map_err(|error| {
        format!(
            "this user cannot write to {shown}: {error}; run doctor as the worker's user, or set --state-dir"
        )
    })?;
    let room = room(directory).map_err(|error| format!("cannot tell how much room {shown} has: {error}"))?;
    let megabytes = room.map_or("an unknown number of".into(), |room| (room / (1024 * 1024)).to_string());
    if room.is_some_and(|room| room < LEAST_ROOM) {
        return Err(format!(
            "{shown} has {megabytes} MB left; the worker stops accepting jobs when it cannot write its journal: free \
             at least 64 MB"
        ));
    }

    let journal = match journal::format(directory).map_err(|error| error.to_string())? {
        Some(version) => format!("its journal has format {version} and no damage"),
        None => "it has no journal yet".into(),
    };
    Ok(format!("ok, {shown} is writable and has {megabytes} MB left; {journal}{}", operation(config)))
}

/// What commands and operators have changed, and the worker remembers.
fn operation(config: &Config) -> String {
    let paused = config.state_dir.join("paused").exists();
    let paused = if paused { "; the worker is paused: no job starts" } else { "" };
    let concurrency = concurrency::remembered(&config.state_dir).map(|concurrency| {
        format!("; {concurrency} jobs run at a time by a command, not {} as configured", config.concurrency)
    });
    format!("{paused}{}", concurrency.unwrap_or_default())
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

/// The bytes that are left, where the system tells.
#[cfg(unix)]
fn room(directory: &Path) -> io::Result<Option<u64>> {
    let statistics = rustix::fs::statvfs(directory)?;
    Ok(Some(statistics.f_bavail * statistics.f_frsize))
}

#[cfg(not(unix))]
fn room(_: &Path) -> io::Result<Option<u64>> {
    Ok(None)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::config::CommandLine;

    fn check_directory(directory: &Path) -> Step {
        let directory = directory.to_str().unwrap();
        let line = [
            "w",
            "--endpoint",
            "h",
            "--client-id",
            "w",
            "--cert",
            "c",
            "--key",
            "k",
            "--state-dir",
            directory,
        ];
        check(&Config::load(&CommandLine::try_parse_from(line).unwrap()).unwrap())
    }

    #[test]
    fn a_new_directory_and_one_without_a_journal_are_well() {
        let directory = tempfile::tempdir().unwrap();
        assert!(check_directory(directory.path()).unwrap().contains("it has no journal yet"));
        assert!(check_directory(&directory.path().join("new")).unwrap().contains("does not exist yet"));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "doctor leaves nothing behind");
    }

    #[test]
    fn a_journal_of_a_newer_version_or_a_damaged_one_is_a_problem() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("journal.sqlite");
        rusqlite::Connection::open(&file).unwrap().pragma_update(None, "user_version", 999).unwrap();
        assert!(check_directory(directory.path()).unwrap_err().contains("format 999"));

        fs::write(&file, "not a database, but long enough to be taken for the header of one".repeat(9))
            .unwrap();
        assert!(check_directory(directory.path()).unwrap_err().contains("damaged"));
    }

    #[test]
    fn a_pause_and_a_concurrency_that_a_command_has_set_are_shown() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("paused"), "").unwrap();
        concurrency::remember(directory.path(), 3).unwrap();
        let found = check_directory(directory.path()).unwrap();
        assert!(
            found.contains("is paused") && found.contains("3 jobs run at a time by a command, not 8"),
            "{found}"
        );
    }

    #[test]
    fn a_path_that_is_no_directory_is_a_problem() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(check_directory(&file).unwrap_err().contains("cannot write"));
    }
}
