//! The verification of a deployed stack: does it do in this account what its tests say that it does?
//!
//! A run uses a tenant and worker identities of its own, under the stack's own worker policy, and deletes them at the
//! end. Jobs of machines that do not take a tenant from their input run on temporary copies of the deployed machines.
//! What only a real account can settle is observed there, and is "unknown here" on the local stack.

mod battery;
mod checks;
mod cleanup;
mod copies;
mod error;
mod identity;
mod options;
mod report;
pub mod samples;
mod site;
mod workers;

pub use battery::verify;
pub use error::Error;
pub use options::{Options, Target};
pub use report::{Check, Report};
