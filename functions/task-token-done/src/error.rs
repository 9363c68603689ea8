//! The errors of the function.

use postern_runtime::NamedError;
use postern_runtime::claim_check::StorageError;
use postern_runtime::iot::PublishFailed;
use postern_types::InvalidAnswer;

/// The reasons for which an answer is not delivered. Lambda retries the event and then sends it to the function's
/// on-failure destination, so that no answer is lost.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    InvalidMessage(#[from] InvalidAnswer),
    #[error("Step Functions throttled the call: {0}")]
    Throttled(String),
    #[error("Step Functions cannot be reached: {0}")]
    Unavailable(String),
    #[error("the function's role, or the policy of the KMS key, does not allow the call: {0}")]
    AccessDenied(String),
    #[error("Step Functions refused the answer: {0}")]
    Refused(String),
    #[error("the claim check cannot be used: {0}")]
    ClaimCheck(#[from] StorageError),
    #[error("the command to the worker cannot be published: {0}")]
    NotPublished(#[from] PublishFailed),
}

impl NamedError for Error {
    fn name(&self) -> &'static str {
        match self {
            Self::InvalidMessage(_) => "TaskTokenDone.InvalidMessage",
            Self::Throttled(_) => "TaskTokenDone.Throttled",
            Self::Refused(_) => "TaskTokenDone.Refused",
            Self::NotPublished(failed) if failed.again => "TaskTokenDone.Unavailable",
            Self::AccessDenied(_) | Self::ClaimCheck(StorageError::Denied { .. }) | Self::NotPublished(_) => {
                "TaskTokenDone.AccessDenied"
            }
            Self::Unavailable(_) | Self::ClaimCheck(_) => "TaskTokenDone.Unavailable",
        }
    }
}
