//! The samples of the state machines, and how their executions end: the list of the verification.

use postern_local::Finished;

pub(crate) use postern_verify::samples::{Ending, samples};

/// Compares the end of an execution with the expected one. `name` identifies the execution in the message of a failure.
pub(crate) fn assert_ends(name: &str, finished: &Finished, ending: &Ending) {
    let difference = ending.difference(finished);
    assert!(difference.is_none(), "{name}: {}", difference.unwrap_or_default());
}
