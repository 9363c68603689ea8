//! The operations on files, each relative to a directory that nothing leads out of.

use std::ffi::OsStr;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use cap_std::fs::{Dir, File, FileType, Metadata, OpenOptions};
use jiff::Timestamp;
use postern_types::TaskFailure;
use postern_types::limits::UPLOAD_BYTES;
use serde::Deserialize;
use serde_json::value::to_raw_value;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::handler::JobContext;
use crate::handlers::input::invalid;
use crate::handlers::limits::{RESULT_BYTES, TimeLimit, too_large};

/// The content type of a file that is a job's result.
const ANY_BYTES: &str = "application/octet-stream";
/// How much of a file is in memory while it is copied or its checksum is computed.
const CHUNK: usize = 64 * 1024;
/// About how many bytes of JSON an entry of a listing has, beside its path.
const ENTRY_BYTES: usize = 80;

/// How the content of a file that is read becomes the job's result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Form {
    /// A text or Base64 in the result, if the message has room for it, and else a file.
    #[default]
    Value,
    /// A file, which travels through the claim check.
    File,
}

/// `{"path", "bytes", "sha256", "text"}`, or `base64` in the place of `text` if the file is not UTF-8. A file that does
/// not fit into a message, or that the job wants as a file, becomes the result file, and nothing is returned.
pub(super) fn read(
    root: &Dir,
    path: &str,
    form: Form,
    job: &JobContext,
    limit: TimeLimit,
) -> Result<Value, TaskFailure> {
    let file = open(root, path)?;
    if form == Form::File {
        return copy(file, path, job, limit);
    }

    let mut content = Vec::new();
    let mut beginning = (&file).take(RESULT_BYTES as u64 + 1);
    beginning.read_to_end(&mut content).map_err(|error| failure(path, &error))?;
    if content.len() <= RESULT_BYTES {
        let value = describe_content(path, content);
        if to_raw_value(&value).is_ok_and(|text| job.fits(&text)) {
            return Ok(value);
        }
    }

    // Opened again, because the beginning is read.
    copy(open(root, path)?, path, job, limit)
}

/// Copies a file into the job's result file.
fn copy(mut file: File, path: &str, job: &JobContext, limit: TimeLimit) -> Result<Value, TaskFailure> {
    let bytes = file.metadata().map_err(|error| failure(path, &error))?.len();
    if bytes > UPLOAD_BYTES {
        let cause =
            format!("the file {path} has {bytes} bytes; Amazon S3 takes at most {UPLOAD_BYTES} at once");
        return Err(TaskFailure::new("Worker.ResultTooLarge", cause));
    }

    let (mut result, mut chunk) = (job.result_file(ANY_BYTES)?, vec![0; CHUNK]);
    loop {
        limit.check(job)?;
        match file.read(&mut chunk).map_err(|error| failure(path, &error))? {
            0 => break,
            count => result.append(&chunk[..count])?,
        }
    }

    result.finish()?;
    Ok(Value::Null)
}

fn describe_content(path: &str, content: Vec<u8>) -> Value {
    let (bytes, sha256) = (content.len(), hexadecimal(Sha256::digest(&content).into()));
    match String::from_utf8(content) {
        Ok(text) => json!({"path": path, "bytes": bytes, "sha256": sha256, "text": text}),
        Err(binary) => {
            let encoded = BASE64.encode(binary.as_bytes());
            json!({"path": path, "bytes": bytes, "sha256": sha256, "base64": encoded})
        }
    }
}

/// `[{"path", "bytes", "modified", "type"}]` by path: the entries of a directory, links not followed.
pub(super) fn list(root: &Dir, path: &str, job: &JobContext, limit: TimeLimit) -> Result<Value, TaskFailure> {
    let folder = if path.is_empty() { "." } else { path };
    let (mut entries, mut size) = (Vec::new(), 0);
    for entry in root.read_dir(folder).map_err(|error| failure(path, &error))? {
        limit.check(job)?;
        let entry = entry.map_err(|error| failure(path, &error))?;
        // A file that was removed since the directory was read is no entry any more.
        let metadata = match entry.metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            metadata => metadata.map_err(|error| failure(path, &error))?,
        };

        let name = Path::new(path).join(entry.file_name()).to_string_lossy().into_owned();
        size += name.len() + ENTRY_BYTES;
        if size > RESULT_BYTES {
            return Err(too_large(&format!("the list of {folder}")));
        }
        entries.push((name.clone(), describe(&name, &metadata)));
    }

    entries.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(entries.into_iter().map(|(_, entry)| entry).collect())
}

fn describe(path: &str, metadata: &Metadata) -> Value {
    let modified = metadata.modified().ok().and_then(|time| Timestamp::try_from(time.into_std()).ok());
    json!({
        "path": path,
        "bytes": metadata.len(),
        "modified": modified.map(|time| time.to_string()),
        "type": type_name(metadata.file_type()),
    })
}

fn type_name(file_type: FileType) -> &'static str {
    if file_type.is_file() {
        "file"
    } else if file_type.is_dir() {
        "directory"
    } else if file_type.is_symlink() {
        "link"
    } else {
        "other"
    }
}

/// `{"path", "bytes", "sha256"}` of a file of any size.
pub(super) fn checksum(
    root: &Dir,
    path: &str,
    job: &JobContext,
    limit: TimeLimit,
) -> Result<Value, TaskFailure> {
    let mut file = open(root, path)?;
    let (mut digest, mut bytes, mut chunk) = (Sha256::new(), 0_u64, vec![0; CHUNK]);
    loop {
        limit.check(job)?;
        match file.read(&mut chunk).map_err(|error| failure(path, &error))? {
            0 => break,
            count => {
                digest.update(&chunk[..count]);
                bytes += count as u64;
            }
        }
    }
    Ok(json!({"path": path, "bytes": bytes, "sha256": hexadecimal(digest.finalize().into())}))
}

/// The content that a job wants to write: a text, or bytes in Base64.
pub(super) fn content(text: Option<String>, base64: Option<String>) -> Result<Vec<u8>, TaskFailure> {
    match (text, base64) {
        (Some(text), None) => Ok(text.into_bytes()),
        (None, Some(encoded)) => BASE64.decode(encoded).map_err(|error| invalid(format!("base64: {error}"))),
        _ => Err(invalid("write takes either \"text\" or \"base64\"")),
    }
}

/// Creates or replaces a file as a whole: a reader sees the old content or the new, also after a power cut.
/// The result is `{"path", "bytes", "sha256"}`.
pub(super) fn write(root: &Dir, path: &str, content: &[u8]) -> Result<Value, TaskFailure> {
    let (folder, name) = split(path)?;
    let failed = |error: io::Error| failure(path, &error);
    let folder = root.open_dir(folder).map_err(failed)?;
    if folder.symlink_metadata(name).is_ok_and(|there| there.is_dir()) {
        return Err(TaskFailure::new("Files.NotAFile", format!("{path}: it is a directory")));
    }

    let temporary = format!(".postern-{:016x}", fastrand::u64(..));
    let written = write_synced(&folder, &temporary, content)
        .and_then(|()| folder.rename(&temporary, &folder, name))
        .and_then(|()| folder.open(".")?.sync_all());
    if written.is_err() {
        // It may never have been created, or have its name already.
        let _ = folder.remove_file(&temporary);
    }

    written.map_err(failed)?;
    let sha256 = hexadecimal(Sha256::digest(content).into());
    Ok(json!({"path": path, "bytes": content.len(), "sha256": sha256}))
}

fn write_synced(folder: &Dir, name: &str, content: &[u8]) -> io::Result<()> {
    let mut file = folder.open_with(name, OpenOptions::new().write(true).create_new(true))?;
    file.write_all(content)?;
    file.sync_all()
}

/// Removes a file or a link, not a directory. A file that is absent is no failure, so that a job may run twice.
pub(super) fn delete(root: &Dir, path: &str) -> Result<Value, TaskFailure> {
    let (folder, name) = split(path)?;
    let removed = root.open_dir(folder).and_then(|folder| folder.remove_file(name));
    match removed {
        Ok(()) => Ok(json!({"path": path, "deleted": true})),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(json!({"path": path, "deleted": false})),
        Err(error) => Err(failure(path, &error)),
    }
}

/// The directory and the name of a file.
fn split(path: &str) -> Result<(&Path, &OsStr), TaskFailure> {
    let path = Path::new(path);
    let name = path.file_name().ok_or_else(|| invalid(format!("path: {} names no file", path.display())))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    Ok((folder.unwrap_or(Path::new(".")), name))
}

/// Opens a regular file. Without `O_NONBLOCK`, opening a pipe would wait for its writer.
fn open(root: &Dir, path: &str) -> Result<File, TaskFailure> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use cap_std::fs::OpenOptionsExt as _;
        options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    }

    let file = root.open_with(path, &options).map_err(|error| failure(path, &error))?;
    let metadata = file.metadata().map_err(|error| failure(path, &error))?;
    if metadata.is_file() {
        Ok(file)
    } else {
        let found = type_name(metadata.file_type());
        Err(TaskFailure::new("Files.NotAFile", format!("{path}: it is not a file (type {found})")))
    }
}

/// The failure of an operation on `path`.
pub(super) fn failure(path: impl AsRef<Path>, error: &io::Error) -> TaskFailure {
    let path = path.as_ref().display();
    // cap-std's own refusal has no number of the operating system.
    let escape = error.kind() == ErrorKind::PermissionDenied && error.raw_os_error().is_none();
    let name = match error.kind() {
        _ if escape => "Files.OutsideRoot",
        ErrorKind::NotFound => "Files.NotFound",
        ErrorKind::PermissionDenied => "Files.Denied",
        ErrorKind::IsADirectory | ErrorKind::NotADirectory => "Files.NotAFile",
        ErrorKind::InvalidInput => return invalid(format!("path: {path:?}: {error}")),
        _ => "Files.Unavailable",
    };
    TaskFailure::new(name, format!("{path}: {error}"))
}

fn hexadecimal(digest: [u8; 32]) -> String {
    use std::fmt::Write as _;
    digest.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
