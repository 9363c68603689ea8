//! The files of large inputs and results, in the folder `spool` of the state directory.
//!
//! A result is on the disk before the journal names it, and an input is whole before a handler sees it. A file that the
//! journal does not name is left over from a process that died, and is deleted at the next start.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use postern_types::limits::UPLOAD_BYTES;
use postern_types::{JobId, Sha256Sum, TaskFailure};
use sha2::{Digest as _, Sha256};

/// The failure of a job whose input or result cannot be kept on the worker's disk.
pub(crate) const SPOOL_FAILED: &str = "Worker.SpoolFailed";

/// The folder.
#[derive(Debug)]
pub(crate) struct Spool {
    folder: PathBuf,
}

/// A result on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SpooledResult {
    /// The file's name in the folder.
    pub(crate) file: String,
    pub(crate) bytes: u64,
    pub(crate) sha256: Sha256Sum,
    pub(crate) content_type: String,
}

impl Spool {
    /// The folder below a state directory. It is created when the first file is.
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self { folder: state_dir.join("spool") }
    }

    /// A folder of its own in the system's folder for temporary files, for the tests of a handler.
    pub(crate) fn for_test() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("postern-worker-{}-{number}", std::process::id());
        Self { folder: std::env::temp_dir().join(name) }
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// The path of a job's input.
    pub(crate) fn input(&self, job_id: &JobId) -> PathBuf {
        self.path(&format!("{job_id}.input"))
    }

    /// Creates a file, or empties the one that is there.
    pub(crate) fn create(&self, path: &Path) -> io::Result<File> {
        fs::create_dir_all(&self.folder)?;
        restrict(&self.folder)?;
        File::create(path)
    }

    /// Syncs the folder, so that a file that was created in it is there after a power cut.
    fn sync(&self) -> io::Result<()> {
        // Windows cannot open a folder as a file.
        if cfg!(unix) { File::open(&self.folder)?.sync_all() } else { Ok(()) }
    }

    /// Deletes a file that is of no more use.
    pub(crate) fn remove(path: &Path) {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!("{} cannot be deleted: {error}", path.display());
            }
            _ => {}
        }
    }

    /// Deletes what an earlier process left behind: every file but `known` ones.
    pub(crate) fn keep_only(&self, known: &HashSet<String>) {
        // There is no folder until a file is needed.
        let Ok(files) = fs::read_dir(&self.folder) else { return };
        for file in files.flatten() {
            if !file.file_name().to_str().is_some_and(|name| known.contains(name)) {
                Self::remove(&file.path());
            }
        }
    }
}

/// Makes the folder readable for this user only: inputs and results are the customers' data.
#[cfg(unix)]
fn restrict(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
}

#[cfg(not(unix))]
fn restrict(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Receives the result that a handler has finished.
pub(crate) type ResultSlot = Arc<Mutex<Option<SpooledResult>>>;

/// A result that a handler writes piece by piece. It travels through the claim check, whatever its size.
///
/// ```
/// use std::io::Write as _;
///
/// use postern_worker::{JobContext, TaskFailure};
///
/// fn export(job: &JobContext) -> Result<(), TaskFailure> {
///     let mut file = job.result_file("text/csv")?;
///     for row in 0..1_000 {
///         file.append(format!("{row},\"row {row}\"\r\n"))?;
///     }
///     file.finish()
/// }
/// ```
#[derive(Debug)]
pub struct ResultFile {
    spool: Arc<Spool>,
    path: PathBuf,
    out: BufWriter<File>,
    sum: Sha256,
    result: SpooledResult,
    slot: ResultSlot,
    finished: bool,
}

impl ResultFile {
    /// An empty file for the result of a job.
    pub(crate) fn create(
        spool: &Arc<Spool>,
        job_id: &JobId,
        content_type: &str,
        slot: &ResultSlot,
    ) -> Result<Self, TaskFailure> {
        let file = format!("{job_id}.result");
        let path = spool.path(&file);
        let out = spool.create(&path).map_err(|error| failed(&path, &error))?;

        let (content_type, sha256) = (content_type.to_owned(), Sha256Sum::new([0; 32]));
        Ok(Self {
            spool: Arc::clone(spool),
            out: BufWriter::with_capacity(64 * 1024, out),
            path,
            sum: Sha256::new(),
            result: SpooledResult { file, bytes: 0, sha256, content_type },
            slot: Arc::clone(slot),
            finished: false,
        })
    }

    /// Adds to the end of the result.
    pub fn append(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), TaskFailure> {
        let bytes = bytes.as_ref();
        self.result.bytes += bytes.len() as u64;
        if self.result.bytes > UPLOAD_BYTES {
            let cause =
                format!("the result has more than the {UPLOAD_BYTES} bytes that Amazon S3 takes at once");
            return Err(TaskFailure::new("Worker.ResultTooLarge", cause));
        }

        self.sum.update(bytes);
        self.out.write_all(bytes).map_err(|error| failed(&self.path, &error))
    }

    /// Makes what was written the job's result, in the place of the handler's return value. A file that is dropped
    /// without this is deleted.
    pub fn finish(mut self) -> Result<(), TaskFailure> {
        let synced = self.out.flush().and_then(|()| self.out.get_ref().sync_all());
        let synced = synced.and_then(|()| self.spool.sync());
        synced.map_err(|error| failed(&self.path, &error))?;

        self.result.sha256 = Sha256Sum::new(self.sum.finalize_reset().into());
        self.finished = true;
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.result.clone());
        Ok(())
    }
}

impl Drop for ResultFile {
    fn drop(&mut self) {
        if !self.finished {
            Spool::remove(&self.path);
        }
    }
}

impl Write for ResultFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(bytes).map_err(|failure| io::Error::other(failure.cause().to_owned()))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The failure of a file that cannot be written or read.
pub(crate) fn failed(path: &Path, error: &io::Error) -> TaskFailure {
    TaskFailure::new(SPOOL_FAILED, format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use postern_types::TaskToken;

    use super::*;

    fn result(spool: &Arc<Spool>, parts: &[&str]) -> Option<SpooledResult> {
        let slot = ResultSlot::default();
        let job_id = TaskToken::parse("abc").unwrap().job_id();
        let mut file = ResultFile::create(spool, &job_id, "text/plain", &slot).unwrap();
        for part in parts {
            file.append(part).unwrap();
        }
        file.finish().unwrap();
        slot.lock().unwrap().take()
    }

    #[test]
    fn a_finished_result_has_its_size_and_sum() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Arc::new(Spool::new(folder.path()));
        let result = result(&spool, &["a", "bc"]).unwrap();

        assert_eq!(result.bytes, 3);
        // printf abc | sha256sum
        let sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(result.sha256.to_string(), sum);
        assert_eq!(fs::read(spool.path(&result.file)).unwrap(), b"abc");
    }

    #[test]
    fn a_result_that_is_written_again_has_nothing_of_the_first_one() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Arc::new(Spool::new(folder.path()));
        result(&spool, &["a long result"]).unwrap();
        let second = result(&spool, &["short"]).unwrap();
        assert_eq!(fs::read(spool.path(&second.file)).unwrap(), b"short");
    }

    #[test]
    fn a_result_that_is_not_finished_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let (spool, slot) = (Arc::new(Spool::new(folder.path())), ResultSlot::default());
        let job_id = TaskToken::parse("abc").unwrap().job_id();
        let mut file = ResultFile::create(&spool, &job_id, "text/plain", &slot).unwrap();
        file.append("half a result").unwrap();
        drop(file);
        assert_eq!(fs::read_dir(folder.path().join("spool")).unwrap().count(), 0);
        assert!(slot.lock().unwrap().is_none());
    }

    #[test]
    fn only_files_that_the_journal_names_survive_a_start() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::new(folder.path());
        spool.keep_only(&HashSet::new());
        for name in ["known.result", "stray.result", "stray.input"] {
            spool.create(&spool.path(name)).unwrap();
        }

        spool.keep_only(&HashSet::from(["known.result".to_owned()]));
        let left: Vec<_> = fs::read_dir(folder.path().join("spool")).unwrap().flatten().collect();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].file_name(), "known.result");
    }

    #[cfg(unix)]
    #[test]
    fn no_other_user_reads_the_folder() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::new(folder.path());
        spool.create(&spool.path("a")).unwrap();
        let mode = fs::metadata(folder.path().join("spool")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}
