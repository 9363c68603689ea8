//! The VFS: SQLite's own, with other functions to open files, and to read, write, sync and close the journal's.
//!
//! A file of the journal is opened by SQLite's own VFS. Its table of functions is then replaced by a copy with six
//! functions of this module, which find the original table by the file's address.

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use rusqlite::ffi::{
    SQLITE_FULL, SQLITE_IOERR_SHORT_READ, SQLITE_IOERR_WRITE, SQLITE_OK, sqlite3_file, sqlite3_int64,
    sqlite3_io_methods, sqlite3_vfs, sqlite3_vfs_find, sqlite3_vfs_register,
};

use crate::control::{Disk, FOLDER};
use crate::pending::Pending;

/// The part of a file's name by which the journal's files are known.
const JOURNAL: &str = "journal.sqlite";

/// What replaces the functions of SQLite's own VFS.
struct Replaced {
    disk: Disk,
    original: &'static sqlite3_vfs,
    files: Mutex<HashMap<usize, Open>>,
}

/// An open file of the journal.
struct Open {
    original: &'static sqlite3_io_methods,
    pending: Pending,
}

// SAFETY: the VFS that SQLite registers at its start lives as long as the process, and SQLite allows calls of its
// functions from every thread.
unsafe impl Sync for Replaced {}
// SAFETY: as above.
unsafe impl Send for Replaced {}

static REPLACED: OnceLock<Replaced> = OnceLock::new();

/// Makes the disk that the environment variable [`FOLDER`] describes the disk of this process. Does nothing without
/// the variable. Call it before the first connection is opened.
///
/// # Panics
///
/// When SQLite refuses the VFS.
pub fn install() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    // SAFETY: a null name asks for the default VFS; SQLite returns a VFS that lives as long as the process.
    let original: &'static sqlite3_vfs =
        unsafe { sqlite3_vfs_find(std::ptr::null()).as_ref() }.expect("SQLite has a VFS");

    let replaced = Replaced { disk: Disk::new(folder), original, files: Mutex::default() };
    if REPLACED.set(replaced).is_err() {
        return;
    }
    let vfs = sqlite3_vfs {
        pNext: std::ptr::null_mut(),
        zName: c"test-disk".as_ptr(),
        xOpen: Some(open),
        ..*original
    };
    // SAFETY: the VFS is leaked, so that it lives as long as the process, and its functions are valid.
    let registered = unsafe { sqlite3_vfs_register(Box::leak(Box::new(vfs)), 1) };
    assert_eq!(registered, SQLITE_OK, "SQLite refused the VFS");
}

fn replaced() -> &'static Replaced {
    REPLACED.get().expect("the VFS is registered after this is set")
}

fn files() -> MutexGuard<'static, HashMap<usize, Open>> {
    replaced().files.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A function of a table of SQLite's own VFS, which has all of them.
macro_rules! original {
    ($table:expr, $function:ident) => {
        $table.$function.expect("SQLite's own VFS has every function")
    };
}

/// Opens a file. Files of the journal get the functions below.
unsafe extern "C" fn open(
    _: *mut sqlite3_vfs,
    name: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    let original = replaced().original;
    // SAFETY: the arguments are SQLite's, except for the VFS, which is the one that the function belongs to.
    let opened = unsafe {
        original!(original, xOpen)(std::ptr::from_ref(original).cast_mut(), name, file, flags, out_flags)
    };
    // SAFETY: SQLite passes a string that ends with zero, or null for a temporary file.
    let is_journal = !name.is_null() && unsafe { CStr::from_ptr(name) }.to_string_lossy().contains(JOURNAL);
    if opened != SQLITE_OK || !is_journal {
        return opened;
    }

    // SAFETY: an opened file has a table of functions, which is a constant of SQLite's own VFS.
    let methods: &'static sqlite3_io_methods = unsafe { &*(*file).pMethods };
    let table = sqlite3_io_methods {
        // Version 3 would add access by memory map, which does not see what is pending.
        iVersion: methods.iVersion.min(2),
        xClose: Some(close),
        xRead: Some(read),
        xWrite: Some(write),
        xTruncate: Some(truncate),
        xSync: Some(sync),
        xFileSize: Some(file_size),
        ..*methods
    };
    files().insert(file as usize, Open { original: methods, pending: Pending::default() });
    // SAFETY: the table is leaked, because SQLite keeps it until it has closed the file. Few files are opened.
    unsafe { (*file).pMethods = Box::leak(Box::new(table)) };
    SQLITE_OK
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    // SAFETY: the file is open until the original function has closed it. A process that ends in good order leaves
    // what it wrote to the kernel, synced or not.
    unsafe {
        flush(file);
        let open = files().remove(&(file as usize)).expect("the file is open");
        original!(open.original, xClose)(file)
    }
}

unsafe extern "C" fn read(
    file: *mut sqlite3_file,
    buffer: *mut c_void,
    amount: c_int,
    offset: sqlite3_int64,
) -> c_int {
    let mut files = files();
    let open = files.get_mut(&(file as usize)).expect("the file is open");
    // SAFETY: the arguments are SQLite's.
    let read = unsafe { original!(open.original, xRead)(file, buffer, amount, offset) };
    if read != SQLITE_OK && read != SQLITE_IOERR_SHORT_READ {
        return read;
    }

    let (offset, length) = (offset.unsigned_abs(), amount.unsigned_abs() as usize);
    // SAFETY: SQLite gives a buffer of this length. After a short read, the original function has filled it up.
    let buffer = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
    open.pending.overlay(offset, buffer);
    let complete = open.pending.size(0) >= offset + length as u64;
    if complete { SQLITE_OK } else { read }
}

unsafe extern "C" fn write(
    file: *mut sqlite3_file,
    bytes: *const c_void,
    amount: c_int,
    offset: sqlite3_int64,
) -> c_int {
    let disk = &replaced().disk;
    if disk.is_failing() {
        return SQLITE_IOERR_WRITE;
    }
    let (offset, length) = (offset.unsigned_abs(), amount.unsigned_abs() as usize);
    // SAFETY: the file is open.
    if disk.is_full() && offset + length as u64 > unsafe { size(file) } {
        return SQLITE_FULL;
    }

    // SAFETY: SQLite gives this many bytes.
    let bytes = unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), length) };
    files().get_mut(&(file as usize)).expect("the file is open").pending.push(offset, bytes);
    SQLITE_OK
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, size: sqlite3_int64) -> c_int {
    // SAFETY: the file is open.
    let flushed = unsafe { flush(file) };
    if flushed != SQLITE_OK {
        return flushed;
    }
    let original = files()[&(file as usize)].original;
    // SAFETY: the arguments are SQLite's.
    unsafe { original!(original, xTruncate)(file, size) }
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, flags: c_int) -> c_int {
    let disk = &replaced().disk;
    std::thread::sleep(disk.sync_time());
    if disk.is_forgetful() {
        return SQLITE_OK;
    }
    if disk.is_failing() {
        return SQLITE_IOERR_WRITE;
    }

    // SAFETY: the file is open, and the flags are SQLite's.
    unsafe {
        let flushed = flush(file);
        if flushed != SQLITE_OK {
            return flushed;
        }
        let original = files()[&(file as usize)].original;
        original!(original, xSync)(file, flags)
    }
}

unsafe extern "C" fn file_size(file: *mut sqlite3_file, bytes: *mut sqlite3_int64) -> c_int {
    // SAFETY: the file is open, and SQLite gives a place for the size.
    unsafe { *bytes = i64::try_from(size(file)).unwrap_or(i64::MAX) };
    SQLITE_OK
}

/// The size of an open file, with what is pending.
unsafe fn size(file: *mut sqlite3_file) -> u64 {
    let files = files();
    let open = &files[&(file as usize)];
    let mut bytes = 0;
    // SAFETY: the file is open. A size that cannot be read counts as 0.
    unsafe { original!(open.original, xFileSize)(file, &raw mut bytes) };
    open.pending.size(bytes.unsigned_abs())
}

/// Hands what is pending to the original VFS.
unsafe fn flush(file: *mut sqlite3_file) -> c_int {
    let mut files = files();
    let open = files.get_mut(&(file as usize)).expect("the file is open");
    for write in open.pending.take() {
        let length = c_int::try_from(write.bytes.len()).expect("SQLite writes pages");
        let offset = i64::try_from(write.offset).expect("SQLite's offsets are signed");
        // SAFETY: the file is open, and the bytes live during the call.
        let written =
            unsafe { original!(open.original, xWrite)(file, write.bytes.as_ptr().cast(), length, offset) };
        if written != SQLITE_OK {
            return written;
        }
    }
    SQLITE_OK
}
