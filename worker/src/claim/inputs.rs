//! Inputs that are in S3: downloaded before the handler runs, and deleted when it has ended.

use postern_types::{AnswerMessage, Command, InputRef, JobMessage, Sha256Sum, TaskFailure};
use tokio::time::sleep;

use super::files::JobInput;
use super::spool::{Spool, failed};
use super::transfer::{self, TransferError};
use super::{ClaimCheck, REFUSALS};
use crate::answers;
use crate::backoff::Backoff;
use crate::link::Link;

/// The largest input that a handler gets as a value. A larger one is a file only.
pub(crate) const INPUT_IN_MEMORY: u64 = 8 * 1024 * 1024;

impl<L: Link> ClaimCheck<L> {
    /// The job's input. One that is in S3 is downloaded.
    pub(crate) async fn input(&self, job: &JobMessage) -> Result<JobInput, TaskFailure> {
        match (&job.input, &job.input_ref) {
            (Some(value), _) => Ok(JobInput { value: Some(value.clone()), file: None }),
            (None, Some(reference)) => self.download(job, reference.clone()).await,
            // The parser accepts no job without either.
            (None, None) => Err(answers::input_unavailable("the message has none")),
        }
    }

    async fn download(&self, job: &JobMessage, mut reference: InputRef) -> Result<JobInput, TaskFailure> {
        let path = self.spool.input(&job.id());
        let (mut backoff, mut refusals) = (Backoff::default(), 0);
        loop {
            let sum = reference.sha256.as_deref().and_then(Sha256Sum::parse);
            let got = self.transfers.get(&reference.url, &self.spool, &path, reference.bytes, sum).await;
            let Err(error) = got else { break };

            tracing::warn!(job_id = %job.id(), trace_id = job.trace_id(), "the input was not downloaded: {error}");
            match error {
                TransferError::File { path, error } => return Err(failed(&path, &error)),
                TransferError::Broken(_) => {}
                TransferError::Refused(_) | TransferError::Mismatch(_) | TransferError::Expired => {
                    refusals += 1;
                    if refusals > REFUSALS {
                        return Err(answers::input_unavailable(&error.to_string()));
                    }
                    reference = self.renew(job).await?;
                }
            }
            sleep(backoff.next()).await;
        }

        tracing::info!(job_id = %job.id(), trace_id = job.trace_id(), bytes = reference.bytes, "input downloaded");
        let mut value = None;
        if reference.bytes <= INPUT_IN_MEMORY {
            let content = transfer::read(&path).await.map_err(|error| failed(&path, &error))?;
            value = serde_json::from_slice(&content).ok();
        }
        Ok(JobInput { value, file: Some(path) })
    }

    /// Asks for a new URL of the job's input.
    async fn renew(&self, job: &JobMessage) -> Result<InputRef, TaskFailure> {
        match self.ask(job, &AnswerMessage::download(job)).await {
            Ok(Command::Download { input_ref, .. }) => Ok(input_ref),
            Ok(Command::Refused { error, cause, .. }) => Err(TaskFailure::new(error, cause)),
            Ok(_) => Err(answers::input_unavailable("the cloud has answered with something else than a URL")),
            Err(reason) => Err(answers::input_unavailable(&format!("its URL has expired, and {reason}"))),
        }
    }

    /// Deletes the input of a job whose handler has ended.
    pub(crate) fn forget_input(&self, job: &JobMessage) {
        if job.input_ref.is_some() {
            Spool::remove(&self.spool.input(&job.id()));
        }
    }
}
