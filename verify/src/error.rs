//! The errors of the verification, each a sentence for the person at the terminal.

use std::path::PathBuf;

use aws_sdk_sfn::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

/// An error of the verification. In a check it is the check's failure.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A call of AWS, a program or a file of the local library failed.
    #[error(transparent)]
    Local(#[from] postern_local::Error),
    /// A call of AWS failed.
    #[error("AWS: {0}")]
    Aws(String),
    /// The stack or the command line cannot be used.
    #[error("{0}")]
    Invalid(String),
    /// A file could not be written.
    #[error("{path}: {error}", path = .path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        error: std::io::Error,
    },
    /// A check found something else than it expects.
    #[error("{0}")]
    Unexpected(String),
}

impl Error {
    /// An error about `path`.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |error| Self::File { path, error }
    }

    /// The failure of a check.
    pub(crate) fn unexpected(what: impl Into<String>) -> Self {
        Self::Unexpected(what.into())
    }
}

impl<E: ProvideErrorMetadata> From<SdkError<E, HttpResponse>> for Error {
    fn from(error: SdkError<E, HttpResponse>) -> Self {
        let message = error.message().map(|message| format!(": {message}")).unwrap_or_default();
        Self::Aws(format!("{}{message}", postern_runtime::aws::failure(&error).1))
    }
}
