//! The errors of the dispatcher.

use postern_runtime::NamedError;
use postern_runtime::claim_check::StorageError;
use postern_types::limits::IOT_PAYLOAD_BYTES;
use postern_types::{InvalidRequest, InvalidTopic};

/// The reasons for which a job is not published. A state machine matches their names.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    InvalidInput(#[from] InvalidRequest),
    #[error("{0}")]
    InvalidTopic(#[from] InvalidTopic),
    #[error(
        "the message has {0} bytes and AWS IoT Core accepts at most {IOT_PAYLOAD_BYTES}; \
         deploy the stack with ClaimCheck=true, or pass a reference to a large input"
    )]
    PayloadTooLarge(usize),
    #[error("Job.InputFrom: {0}")]
    InputFrom(String),
    #[error("the input cannot be kept in S3: {0}")]
    Storage(#[from] StorageError),
    #[error("AWS IoT Core throttled the message: {0}")]
    Throttled(String),
    #[error("AWS IoT Core refused the message: {0}; check the policy of the function's role and the topic")]
    PublishRefused(String),
    #[error("the message could not be published to AWS IoT Core: {0}")]
    PublishFailed(String),
}

impl NamedError for Error {
    fn name(&self) -> &'static str {
        match self {
            Self::InvalidInput(_) | Self::InvalidTopic(_) | Self::InputFrom(_) => "Dispatcher.InvalidInput",
            Self::PayloadTooLarge(_) => "Dispatcher.PayloadTooLarge",
            Self::Throttled(_) => "Dispatcher.Throttled",
            Self::PublishRefused(_) | Self::Storage(StorageError::Denied { .. }) => {
                "Dispatcher.PublishRefused"
            }
            Self::PublishFailed(_) | Self::Storage(_) => "Dispatcher.PublishFailed",
        }
    }
}
