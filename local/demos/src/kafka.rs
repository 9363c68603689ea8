//! A broker, a seeded customer file, and a reader of the bucket.

pub mod broker;
pub mod customers;
pub mod reader;
