//! A disk for tests, under the worker's journal. It is an SQLite VFS (the layer with which SQLite reaches files): it
//! passes everything on to SQLite's own VFS, except for files whose name contains `journal.sqlite`.
//!
//! - What is written stays in memory until it is synced. A process that is killed loses the rest, as a machine does in
//!   a power cut. (A killed process alone loses nothing that it has written: the kernel has it.)
//! - The files in the folder that [`FOLDER`] names decide what the disk does at the moment; [`Disk`] writes them.
//!
//! The product does not know this crate: only the tests' own worker programs call [`install`].

mod control;
mod pending;
mod vfs;

pub use control::{Disk, FOLDER};
pub use vfs::install;
