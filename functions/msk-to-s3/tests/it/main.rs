//! Tests of the function from event to objects with a bucket in memory, and of the bucket with a stub of S3.

#![allow(clippy::unwrap_used, reason = "all of it is tests, helpers included")]

mod events;
mod exactly_once;
mod layout;
mod properties;
mod s3;
mod support;
