//! A Kafka event source mapping on a laptop: it polls the partitions of a topic, gathers batches by count, bytes and
//! window, invokes a Lambda function with them over the Invoke API, and does with the answer what Lambda does:
//! commits, sends the named records again, halves the batch, gives up into a bucket or a file.
//!
//! Beside it what a demonstration and a test of it need: a seeded customer file ([`customers`]), a broker
//! ([`broker`]), and the reader that reads every record of a bucket once ([`reader`]).

pub mod dead_letters;
pub mod event;
pub mod invoke;
pub mod mapping;
pub mod source;
