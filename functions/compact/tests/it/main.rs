//! Tests of compaction on a bucket in memory, whose faults and kills follow from a seed.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_wrap,
    clippy::case_sensitive_file_extension_comparisons,
    reason = "all of it is tests, helpers included, with small numbers and keys of their own"
)]

mod bucket;
mod formats;
mod kills;
mod properties;
mod topic;
