//! From broker to bucket, with the real function and the real poller.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "all of it is tests, helpers included")]

mod failures;
mod kills;
mod parts;
mod s3;
