//! The files by which a test controls the disk of another process.

use std::fs;
use std::io::Result;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The environment variable that names the folder with the files that control the disk.
pub const FOLDER: &str = "TEST_DISK";

const SYNC_MILLISECONDS: &str = "sync-milliseconds";
const FULL: &str = "full";
const FAILING: &str = "failing";
const FORGETFUL: &str = "forgetful";

/// The disk of one or more processes. A change takes effect with the next read, write or sync.
#[derive(Debug, Clone)]
pub struct Disk {
    folder: PathBuf,
}

impl Disk {
    /// The disk that the files in `folder` control. A disk without files is quick and sound.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The folder of the files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes each sync take this much longer.
    pub fn slow(&self, time: Duration) -> Result<()> {
        if time.is_zero() {
            return self.set(SYNC_MILLISECONDS, false);
        }

        fs::create_dir_all(&self.folder)?;
        // Renamed into place, because another process may read it at any moment.
        let new = self.folder.join("new");
        fs::write(&new, time.as_millis().to_string())?;
        fs::rename(new, self.folder.join(SYNC_MILLISECONDS))
    }

    /// Makes files that cannot grow, as on a disk without room.
    pub fn full(&self, full: bool) -> Result<()> {
        self.set(FULL, full)
    }

    /// Makes every write fail, as after the kernel has made a damaged file system read-only.
    pub fn failing(&self, failing: bool) -> Result<()> {
        self.set(FAILING, failing)
    }

    /// Makes syncs report success without having written anything, as some disks do.
    pub fn forgetful(&self, forgetful: bool) -> Result<()> {
        self.set(FORGETFUL, forgetful)
    }

    fn set(&self, file: &str, there: bool) -> Result<()> {
        fs::create_dir_all(&self.folder)?;
        let file = self.folder.join(file);
        if there {
            return fs::write(file, "");
        }
        match fs::remove_file(file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.folder.join(FULL).exists()
    }

    pub(crate) fn is_failing(&self) -> bool {
        self.folder.join(FAILING).exists()
    }

    pub(crate) fn is_forgetful(&self) -> bool {
        self.folder.join(FORGETFUL).exists()
    }

    pub(crate) fn sync_time(&self) -> Duration {
        let milliseconds = fs::read_to_string(self.folder.join(SYNC_MILLISECONDS));
        Duration::from_millis(milliseconds.ok().and_then(|text| text.parse().ok()).unwrap_or(0))
    }
}
