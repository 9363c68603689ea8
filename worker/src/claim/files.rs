//! The files of one job, as its handler sees them. They are moved elsewhere.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use postern_types::{JobMessage, TaskFailure};
use serde_json::value::RawValue;

use super::spool::{ResultFile, ResultSlot, Spool, SpooledResult};

/// The input that a handler sees.
#[derive(Debug, Default)]
pub(crate) struct JobInput {
    /// The input as JSON. `None` if it is too large for the memory, or no JSON.
    pub(crate) value: Option<Box<RawValue>>,
    /// The input as a file, if it came through the claim check.
    pub(crate) file: Option<PathBuf>,
}

/// The files of one job: its input, and the result that its handler writes.
#[derive(Debug, Clone)]
pub(crate) struct JobFiles {
    spool: Arc<Spool>,
    result: ResultSlot,
}

impl JobFiles {
    pub(crate) fn new(spool: Arc<Spool>) -> Self {
        Self { spool, result: ResultSlot::default() }
    }

    /// Files in the system's folder for temporary files, for the tests of a handler.
    pub(crate) fn for_test() -> Self {
        Self::new(Arc::new(Spool::for_test()))
    }

    /// An empty file for the job's result.
    pub(crate) fn result_file(
        &self,
        job: &JobMessage,
        content_type: &str,
    ) -> Result<ResultFile, TaskFailure> {
        ResultFile::create(&self.spool, &job.id(), content_type, &self.result)
    }

    /// The content of the result that the handler has finished.
    #[cfg(test)]
    pub(crate) fn finished(&self) -> Option<Vec<u8>> {
        let result = self.take()?;
        std::fs::read(self.spool.path(&result.file)).ok()
    }

    pub(super) fn take(&self) -> Option<SpooledResult> {
        self.result.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
