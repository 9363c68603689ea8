//! The function from event to objects, with a bucket in memory; and the bucket against a server's answers.

#![allow(clippy::unwrap_used, reason = "all of it is tests, helpers included")]

mod events;
mod exactly_once;
mod properties;
mod s3;
mod support;
