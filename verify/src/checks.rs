//! The checks, by topic. Each one returns what it found, or an error, which is its failure.

pub(crate) mod absence;
pub(crate) mod attempts;
pub(crate) mod cancel;
pub(crate) mod dead_letters;
pub(crate) mod errors;
pub(crate) mod identities;
pub(crate) mod latency;
pub(crate) mod machines;
pub(crate) mod others;

use crate::error::Error;
use crate::report::Verdict;

/// What a check found.
pub(crate) type Checked = Result<Verdict, Error>;

/// The end of a check whose expectation holds.
pub(crate) fn passed(detail: impl Into<String>) -> Verdict {
    Verdict::Passed(detail.into())
}

/// Fails the check unless `holds`.
pub(crate) fn expect(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(Error::unexpected(otherwise())) }
}
