//! The sealed links by which a person answers a Step Functions task, and the keys that open them.
//!
//! `approval` makes the links and serves their page; `jobs-api` opens the link that a job's item keeps. The crate calls
//! Secrets Manager for the key, and no other service: it answers no task.

mod keyring;
mod link;
mod source;

pub use keyring::{Error, Keyring};
pub use link::{Ask, Decision, InvalidLink, Key, KeyTooShort};
pub use source::KeySource;

/// The error of a task that a person rejected. The state machine catches it by this name.
pub const REJECTED: &str = "Approval.Rejected";
