//! The concurrency that a command has set. It is kept in the file `concurrency` of the state directory, which takes the
//! place of the configured value until the file is removed.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use postern_types::Command;

const FILE: &str = "concurrency";

/// The remembered concurrency. `None` if no command has set one, or if the file holds no number from 1 to 1,000.
pub(crate) fn remembered(state_dir: &Path) -> Option<usize> {
    let text = fs::read_to_string(state_dir.join(FILE)).ok()?;
    let number = text.trim().parse().ok()?;
    (1..=usize::from(Command::MOST_CONCURRENCY)).contains(&number).then_some(number)
}

/// Remembers a concurrency. A process that dies leaves the old file or the new one.
pub(crate) fn remember(state_dir: &Path, concurrency: usize) -> io::Result<()> {
    let new: PathBuf = state_dir.join(".concurrency.new");
    let mut file = File::create(&new)?;
    writeln!(file, "{concurrency}")?;
    file.sync_all()?;
    fs::rename(&new, state_dir.join(FILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_concurrency_is_remembered_and_what_is_none_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        assert_eq!(remembered(directory), None);
        remember(directory, 4).unwrap();
        remember(directory, 1_000).unwrap();
        assert_eq!(remembered(directory), Some(1_000));

        for wrong in ["0", "1001", "many", ""] {
            fs::write(directory.join(FILE), wrong).unwrap();
            assert_eq!(remembered(directory), None, "{wrong}");
        }
    }
}
