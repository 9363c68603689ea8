//! End-to-end tests of Kafka to S3, with a real broker, the real poller and the real function. S3 is a server in memory.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "all of it is tests, helpers included")]

mod avro;
mod failures;
mod kills;
mod layout;
mod parts;
mod s3;
mod tables;
