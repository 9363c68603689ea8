//! End-to-end tests: the real functions and the real worker in the emulator, which enforces IAM and IoT policies.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod api;
mod cancel;
mod claim;
mod dead_letters;
mod demos;
mod enrolment;
mod events;
mod grip;
mod jobs;
mod jobs_table;
mod kafka;
mod machines;
mod nested_maps;
mod permissions;
mod plant;
mod progress;
mod samples;
mod stack;
mod variants;
mod verify;
