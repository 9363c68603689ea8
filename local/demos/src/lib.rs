//! The three demonstrations (`make demo`, `make demo-kafka`, `make demo-grip`) and what they share with the tests of
//! Kafka to S3: a broker, a seeded customer file, and a reader that reads every record of a bucket once.

pub mod kafka;
