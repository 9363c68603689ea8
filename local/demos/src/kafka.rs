//! What `make demo-kafka` and the tests in `tests/kafka` share: a broker, generated customers, and a reader of the bucket.

pub mod broker;
pub mod customers;
pub mod reader;
