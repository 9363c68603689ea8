//! The Lambda function `compact`: merges the CSV objects of msk-to-s3 into a table, each record exactly once.
//!
//! msk-to-s3 writes small objects, and after a redelivery some records twice. This function reads the objects of a
//! partition in the order of their offsets, leaves out what it has seen, and writes one Parquet or CSV object for each
//! hour of the records' timestamps. Readers take the list of objects from the partition's manifest.
//! `docs/kafka/tables.md` explains why a reader sees each record once, whatever happens to a run.
//!
//! The data flows in one direction: [`handle`] loads the `manifest`; `plan` selects the objects (`source`), merges their
//! rows (`merge`, `cursor`, `row`) and decides what to write; `execute` merges them again and encodes them (`table`,
//! `upload`); `symlinks` lists them for Athena; the manifest is replaced. A [`Store`] is the bucket.

mod config;
mod cursor;
mod error;
mod execute;
mod handler;
mod hour;
mod manifest;
mod merge;
mod plan;
mod ranges;
mod row;
mod s3;
mod source;
mod store;
mod symlinks;
mod table;
mod upload;

pub use config::{Config, Format};
pub use error::Error;
pub use handler::{Answer, Compacted, Input, PartitionInput, compact, handle};
pub use hour::Hour;
pub use manifest::{Manifest, Plan, PlannedSource, TableFile};
pub use ranges::Ranges;
pub use s3::{Bucket, Parts};
pub use store::{Condition, Listed, Put, Store};
