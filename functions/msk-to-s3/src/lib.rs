//! The Lambda function `msk-to-s3`: writes the records of a Kafka topic to S3 as CSV, effectively once.
//!
//! An event source mapping (Amazon MSK in this or another account, or a self-managed cluster) invokes the function with
//! batches of records. The function writes one object for each partition and range of offsets, under a key that
//! identifies the records in it. `docs/kafka/why-nothing-is-lost.md` explains why no record is lost or read twice.
//!
//! The data flows in one direction: [`write_batch`] has `event` read the records with the JSON reader of `json`;
//! `convert` sorts them into runs; `row` writes each as a row; `object` names and compresses the runs; a [`Store`] puts
//! them into the bucket.
//!
//! The crate is a library beside the binary so that `benches/kafka` can run the handler without a bucket.

mod bad_record;
mod column;
mod config;
mod convert;
mod csv;
mod event;
mod handler;
mod json;
mod kind;
mod object;
mod payload;
mod row;
mod scan;
mod store;

pub use column::Column;
pub use config::{Compression, Config, Format, KeyLayout, LineBreaks, Metadata};
pub use event::InvalidEvent;
pub use handler::{Answer, BatchItemFailure, ItemIdentifier, write_batch};
pub use kind::{Kind, Typed};
pub use object::Object;
pub use store::{Bucket, Error, Put, Store};
