//! The local stack: what `make demo` and the end-to-end tests run on. It starts the emulator
//! ([ministack](https://pypi.org/project/ministack/) with the mends of `local/emulator`), deploys
//! `template.yml` into it, gives a worker its certificate, starts it, and follows executions. Everything
//! listens on loopback, on ports that were free, and ends with its owner.

mod emulator;
mod executions;
mod mapping;
mod process;
mod project;
mod terminal;

pub use emulator::{
    DEFAULT_MACHINE, Deployment, Emulator, EmulatorOptions, Outputs, WorkerFiles, sdk_config,
};
pub use executions::{Executions, Finished};
pub use mapping::{Destination, DestinationConfig, EventSourceMapping, KafkaConfig};
pub use process::Process;
pub use project::Project;
pub use terminal::{Steps, say, verdict};

/// What went wrong, in a sentence for the person at the terminal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program could not be started or ended badly.
    #[error("{what}: {why}{}", .log.as_ref().map(|log| format!("\n  see {}", log.display())).unwrap_or_default())]
    Program {
        /// Which.
        what: String,
        /// What it said.
        why: String,
        /// Where it says more.
        log: Option<std::path::PathBuf>,
    },
    /// A file or folder.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// An AWS call.
    #[error("{0}")]
    Aws(String),
    /// Something that did not come true in time.
    #[error("waited {0:?} for {1}")]
    TimedOut(std::time::Duration, String),
}

impl<E> From<aws_sdk_sfn::error::SdkError<E>> for Error
where
    E: aws_sdk_sfn::error::ProvideErrorMetadata,
{
    fn from(error: aws_sdk_sfn::error::SdkError<E>) -> Self {
        Self::Aws(postern_runtime::aws::failure(&error).1)
    }
}
