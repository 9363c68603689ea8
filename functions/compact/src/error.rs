//! The function's errors.

use postern_runtime::NamedError;

/// Why a run of compaction ended early. The next run continues where this one stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The invocation's payload is not an input of the function.
    #[error(
        "the input is invalid: {0}; it must be {{}} or like {{\"Partition\":0,\"ClosedBefore\":\"2026-01-01T00:00:00Z\"}}"
    )]
    InvalidInput(String),
    /// S3 throttled the request.
    #[error("S3 throttled the request: {0}")]
    Throttled(String),
    /// S3 could not be reached, or failed with a 5xx status.
    #[error("S3 is unavailable: {0}")]
    Unavailable(String),
    /// S3 denied the request.
    #[error(
        "S3 denied the request; check the function's role, the bucket policy and the KMS key policy: {0}"
    )]
    AccessDenied(String),
    /// S3 rejected the request for another reason.
    #[error("S3 rejected the request: {0}")]
    Refused(String),
    /// Another run changed the manifest again and again.
    #[error("another run is compacting {0}; this one gave way")]
    Conflict(String),
    /// An object that a committed plan names has been deleted or replaced, so the plan cannot be completed.
    #[error("{0} was deleted or replaced after a plan named it; restore the version that the plan names")]
    SourceMissing(String),
    /// An object is not a CSV object of msk-to-s3 with the configured columns.
    #[error("{key}: {problem}")]
    InvalidSource {
        /// The object's key.
        key: String,
        /// The problem, without the object's content.
        problem: String,
    },
    /// A field does not have the type that is declared for its column.
    #[error(
        "the column {column} of the record at offset {offset} is not {expected}; correct the type, or declare it as text"
    )]
    InvalidValue {
        /// The column's name.
        column: String,
        /// The record's offset.
        offset: u64,
        /// The declared type.
        expected: String,
    },
    /// The manifest is not one that this version writes.
    #[error("the manifest {key} cannot be read: {problem}")]
    InvalidManifest {
        /// The manifest's key.
        key: String,
        /// The problem.
        problem: String,
    },
    /// A table's object could not be encoded.
    #[error("the table's object could not be encoded: {0}")]
    Encoding(String),
}

impl NamedError for Error {
    fn name(&self) -> &'static str {
        match self {
            Self::InvalidInput(_) => "Compact.InvalidInput",
            Self::Throttled(_) => "Compact.Throttled",
            Self::Unavailable(_) => "Compact.Unavailable",
            Self::AccessDenied(_) => "Compact.AccessDenied",
            Self::Refused(_) => "Compact.Refused",
            Self::Conflict(_) => "Compact.Conflict",
            Self::SourceMissing(_) => "Compact.SourceMissing",
            Self::InvalidSource { .. } => "Compact.InvalidSource",
            Self::InvalidValue { .. } => "Compact.InvalidValue",
            Self::InvalidManifest { .. } => "Compact.InvalidManifest",
            Self::Encoding(_) => "Compact.Encoding",
        }
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::Encoding(error.to_string())
    }
}

impl From<parquet::errors::ParquetError> for Error {
    fn from(error: parquet::errors::ParquetError) -> Self {
        Self::Encoding(error.to_string())
    }
}
