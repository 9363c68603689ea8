//! Records of a Kafka topic become CSV objects in S3, each record once: Lambda invokes the function with batches of
//! an event source mapping (Amazon MSK, in this account or another, or a self-managed cluster), and the function
//! writes one object for every partition and range of offsets, under a key that says which records are in it.
//! `docs/kafka.md` holds the argument why no record is lost or doubled.
//!
//! A library beside the binary, so that `benches/kafka` can run the handler in the runtime without a bucket.

mod convert;
mod csv;
mod event;
mod handler;
mod json;
mod object;
mod row;
mod scan;
mod settings;
mod store;

pub use event::InvalidEvent;
pub use handler::{Answer, BatchItemFailure, ItemIdentifier, write_batch};
pub use object::Object;
pub use settings::{Compression, Format, LineBreaks, Metadata, Settings};
pub use store::{Bucket, Error, Put, Store};
