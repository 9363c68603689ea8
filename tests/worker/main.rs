//! The worker with two brokers other than the emulator's: mosquitto, and a scripted broker that reproduces
//! redeliveries, lost connections and refusals of AWS IoT Core. The tests take the cloud's part: they publish jobs and
//! read answers.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod connection;
mod control;
mod disk;
mod faults;
mod handlers;
mod identity;
mod jobs;
mod mosquitto;
mod operation;
mod proxy;
mod redelivery;
mod renewal;
mod sample_defects;
mod scripted_broker;
mod site;
mod soak;
mod stop;
