//! End-to-end tests: the real functions and the real worker, in the emulator (IAM and IoT policies enforced) and on mosquitto, the second broker.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod demos;
mod events;
mod grip;
mod jobs;
mod kafka;
mod machines;
mod permissions;
mod stack;
mod variants;
