//! Tests of compaction on a bucket in memory, whose faults and kills follow from a seed.

mod bucket;
mod formats;
mod kills;
mod properties;
mod topic;
