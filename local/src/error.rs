//! The errors of the local stack, each a sentence for the person at the terminal.

use std::path::PathBuf;
use std::time::Duration;

/// An error of the local stack.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program could not be started, or it ended with a failure.
    #[error("{what}: {why}{}", .log.as_ref().map(|log| format!("\n  see {}", log.display())).unwrap_or_default())]
    Program {
        /// The program, or the task that it was started for.
        what: String,
        /// The last line that the program wrote, or the system's reason.
        why: String,
        /// The file with the program's whole output.
        log: Option<PathBuf>,
    },
    /// A file or folder could not be read or written.
    #[error("{path}: {error}", path = .path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        error: std::io::Error,
    },
    /// The system refused an operation that concerns no single file.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// An AWS call failed.
    #[error("{0}")]
    Aws(String),
    /// A value from the command line or the template cannot be used.
    #[error("{0}")]
    Invalid(String),
    /// A condition did not become true in time.
    #[error("waited {0:?} for {1}")]
    TimedOut(Duration, String),
}

impl Error {
    /// An error about `path`.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |error| Self::File { path, error }
    }
}

impl<E> From<aws_sdk_sfn::error::SdkError<E>> for Error
where
    E: aws_sdk_sfn::error::ProvideErrorMetadata,
{
    fn from(error: aws_sdk_sfn::error::SdkError<E>) -> Self {
        Self::Aws(format!("Step Functions: {}", postern_runtime::aws::failure(&error).1))
    }
}
