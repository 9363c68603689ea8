//! From broker to bucket, with the real function and the real poller.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "all of it is tests, helpers included")]

mod end_to_end;
mod parts;
mod s3;
