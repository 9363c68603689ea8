//! The end-to-end suite of Kafka to S3, with the real broker, poller and function.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "all of it is tests, helpers included")]

mod failures;
mod kills;
mod parts;
mod s3;
