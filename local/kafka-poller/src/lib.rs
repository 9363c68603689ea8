//! A Kafka event source mapping on a laptop.
//!
//! The [`poller`] reads the partitions of a topic ([`source`]), gathers batches by count, bytes and window, and invokes a
//! Lambda function with them ([`invoke`]). [`mapping`] then does what Lambda's event source mapping does: it commits the
//! batch, sends the named records again, halves the batch, or gives records up to the on-failure destination
//! ([`dead_letters`]) in [`invocation_record`]s. With a schema registry ([`registry`]) records are decoded first
//! ([`decode`], [`avro`]). Records that no event filter matches ([`filter`]) are committed without an invocation.

pub mod avro;
pub mod dead_letters;
pub mod decode;
pub mod error;
pub mod event;
pub mod filter;
pub mod invocation_record;
pub mod invoke;
pub mod mapping;
pub mod poller;
pub mod registry;
pub mod source;
