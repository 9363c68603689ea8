//! The worker against two brokers that are not the emulator's: mosquitto, and a scripted broker that does what
//! AWS IoT Core does on its bad days. The tests play the cloud: they publish jobs and read answers.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod connection;
mod faults;
mod identity;
mod jobs;
mod mosquitto;
mod proxy;
mod redelivery;
mod scripted_broker;
mod site;
