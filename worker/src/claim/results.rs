//! Results that are too large for a message: kept as a file, and uploaded for each attempt that waits for them.

use std::collections::BTreeMap;

use postern_types::limits::IOT_PAYLOAD_BYTES;
use postern_types::{AnswerMessage, Command, JobMessage, ResultRef, TaskFailure, UploadRequest};
use serde_json::value::RawValue;
use tokio::time::sleep;

use super::files::JobFiles;
use super::spool::{self, SpooledResult, failed};
use super::transfer::TransferError;
use super::{ClaimCheck, Produced, REFUSALS, UPLOAD_FAILED};
use crate::answers::{self, Outcome, Output};
use crate::backoff::Backoff;
use crate::journal::SpooledEntry;
use crate::link::Link;
use crate::runs::RunKey;

/// How often one URL is tried before another one is asked for.
const TRIES: usize = 3;
/// The content type of a value that a handler has returned.
const JSON: &str = "application/json";

/// What became of an upload by one URL.
enum Put {
    /// S3 has the object.
    Done,
    /// S3 does not take this URL.
    Refused,
    /// S3 failed, or the connection did.
    Broken,
}

impl<L: Link> ClaimCheck<L> {
    /// Takes what a handler has returned or written. A file is in the journal before this returns.
    pub(crate) async fn keep(
        &self,
        key: &RunKey,
        job: &JobMessage,
        files: &JobFiles,
        returned: Result<Box<RawValue>, TaskFailure>,
    ) -> Result<Produced, TaskFailure> {
        let value = match returned {
            Ok(value) => value,
            Err(failure) => {
                files.take().inspect(|result| self.remove(result));
                return Err(failure);
            }
        };
        let result = match files.take() {
            Some(result) => result,
            None if fits(job, &value) => return Ok(Produced::Value(value)),
            // The sample's functions know no claim check.
            None if job.job_id.is_none() => {
                return Err(answers::result_too_large(value.get().len(), IOT_PAYLOAD_BYTES));
            }
            None => write(files, job, value).await?,
        };
        if job.job_id.is_none() {
            self.remove(&result);
            let cause = "the handler has written a file, which only Postern's own functions take";
            return Err(TaskFailure::new("Worker.ResultTooLarge", cause));
        }

        self.journal.spool(entry(key, &result)).await;
        tracing::info!(job_id = %job.id(), trace_id = job.trace_id(), bytes = result.bytes, "the result is kept as a file");
        self.lock().insert(key.clone(), result.clone());
        Ok(Produced::File(result))
    }

    /// The outcome of one attempt. A file is uploaded for it.
    pub(crate) async fn settle(&self, job: &JobMessage, produced: &Result<Produced, TaskFailure>) -> Outcome {
        match produced {
            Ok(Produced::Value(value)) => Ok(Output::Value(value.clone())),
            Ok(Produced::File(result)) => self.upload(job, result).await.map(Output::Stored),
            Err(failure) => Err(failure.clone()),
        }
    }

    async fn upload(&self, job: &JobMessage, result: &SpooledResult) -> Result<ResultRef, TaskFailure> {
        let SpooledResult { bytes, sha256, content_type, .. } = result;
        let request =
            UploadRequest { bytes: *bytes, sha256: sha256.to_string(), content_type: content_type.clone() };
        let message = AnswerMessage::upload(job, &request);

        let (mut backoff, mut refusals) = (Backoff::default(), 0);
        let place = loop {
            let (url, headers, place) = match self.ask(job, &message).await {
                Ok(Command::Upload { url, headers, result_ref, .. }) => (url, headers, result_ref),
                Ok(Command::Refused { error, cause, .. }) => return Err(TaskFailure::new(error, cause)),
                Ok(_) => {
                    return Err(not_uploaded(result.bytes, "the cloud has answered with something else"));
                }
                Err(reason) => return Err(not_uploaded(result.bytes, &reason)),
            };
            match self.put(job, result, &url, &headers, &mut backoff).await? {
                Put::Done => break place,
                Put::Broken => {}
                Put::Refused => refusals += 1,
            }
            if refusals > REFUSALS {
                let cause = "S3 refuses the result again and again; the worker's log says why";
                return Err(TaskFailure::new(UPLOAD_FAILED, cause));
            }
        };

        tracing::info!(job_id = %job.id(), trace_id = job.trace_id(), bytes, "result uploaded");
        let UploadRequest { bytes, sha256, content_type } = request;
        Ok(ResultRef { bucket: place.bucket, key: place.key, bytes, sha256, content_type })
    }

    /// Uploads by one URL, which may be tried more than once.
    async fn put(
        &self,
        job: &JobMessage,
        result: &SpooledResult,
        url: &str,
        headers: &BTreeMap<String, String>,
        backoff: &mut Backoff,
    ) -> Result<Put, TaskFailure> {
        let path = self.spool.path(&result.file);
        for _ in 0..TRIES {
            let Err(error) = self.transfers.put(url, headers.iter(), &path, result.bytes).await else {
                return Ok(Put::Done);
            };

            tracing::warn!(job_id = %job.id(), trace_id = job.trace_id(), "the result was not uploaded: {error}");
            match error {
                TransferError::File { path, error } => return Err(failed(&path, &error)),
                TransferError::Broken(_) => sleep(backoff.next()).await,
                TransferError::Refused(_) | TransferError::Mismatch(_) | TransferError::Expired => {
                    return Ok(Put::Refused);
                }
            }
        }
        Ok(Put::Broken)
    }
}

/// The failure of a result whose URL does not come. The result stays on the disk.
fn not_uploaded(bytes: u64, reason: &str) -> TaskFailure {
    let cause = format!(
        "the result has {bytes} bytes, which a message does not carry, and {reason}. The result is kept: another attempt \
         uploads it without another run"
    );
    TaskFailure::new(UPLOAD_FAILED, cause)
}

fn entry(key: &RunKey, result: &SpooledResult) -> SpooledEntry {
    SpooledEntry {
        kind: key.kind.clone(),
        key: key.key.clone(),
        file: result.file.clone(),
        bytes: result.bytes,
        sha256: result.sha256.to_string(),
        content_type: result.content_type.clone(),
    }
}

/// Whether a message with the result is small enough for AWS IoT Core.
fn fits(job: &JobMessage, value: &RawValue) -> bool {
    value.get().len() < IOT_PAYLOAD_BYTES && AnswerMessage::succeeded(job, value).is_some()
}

/// Writes a value that is too large for a message to a file.
async fn write(
    files: &JobFiles,
    job: &JobMessage,
    value: Box<RawValue>,
) -> Result<SpooledResult, TaskFailure> {
    let mut file = files.result_file(job, JSON)?;
    let written =
        tokio::task::spawn_blocking(move || file.append(value.get()).and_then(|()| file.finish())).await;
    match written {
        Ok(written) => written?,
        Err(panic) => return Err(TaskFailure::new(spool::SPOOL_FAILED, panic.to_string())),
    }
    files.take().ok_or_else(|| TaskFailure::new(spool::SPOOL_FAILED, "the result was not written"))
}
