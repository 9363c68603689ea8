//! Why a call of the table failed.

use postern_runtime::signed::CallFailed;

/// The reason for which the table of jobs could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// DynamoDB throttled or failed, or did not answer. A later call can succeed.
    #[error("DynamoDB is not available: {0}")]
    Unavailable(String),
    /// DynamoDB refused the call: the role's permission, or the table itself, is missing.
    #[error(
        "DynamoDB refused the call: {0}; check the policy of the function's role, and the table in JOBS_TABLE"
    )]
    Refused(String),
    /// An answer of DynamoDB, or an item of the table, has another form than Postern writes.
    #[error("the table contains an item that Postern did not write: {0}")]
    Malformed(String),
}

impl From<CallFailed> for Error {
    fn from(failed: CallFailed) -> Self {
        if failed.again { Self::Unavailable(failed.reason) } else { Self::Refused(failed.reason) }
    }
}
