//! The claim check: large inputs and results travel over HTTPS, by presigned URLs that the cloud grants to single jobs.
//!
//! A large result is a file that the journal names, so that a process that dies uploads it again as a whole. URLs are
//! asked for when they are needed: they expire after an hour, and a job may run longer.

mod spool;
mod transfer;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use postern_types::limits::IOT_PAYLOAD_BYTES;
use postern_types::{
    AnswerMessage, Command, InputRef, JobId, JobMessage, ObjectRef, ResultRef, Sha256Sum, TaskFailure,
    UploadRequest,
};
use serde_json::value::RawValue;
use tokio::time::{sleep, timeout};

use crate::answers::{self, Outcome, Output};
use crate::backoff::Backoff;
use crate::config::Config;
use crate::delivery::Delivery;
use crate::grants::Grants;
use crate::journal::{Journal, SpooledEntry};
use crate::link::{Link, Priority};
use crate::runs::RunKey;
use crate::tls::{self, TlsError};
use spool::{ResultSlot, Spool, SpooledResult, failed};
use transfer::{TransferError, Transfers};

pub use spool::ResultFile;

/// The largest input that a handler gets as a value. A larger one is a file only.
pub(crate) const INPUT_IN_MEMORY: u64 = 8 * 1024 * 1024;
/// How long the first answer to a request for a URL may take. Lambda tries an event again after one and two minutes.
const FIRST_ANSWER: Duration = Duration::from_secs(30);
/// How long a later answer may take.
const LAST_ANSWER: Duration = Duration::from_mins(5);
/// How often a request for a URL is sent before the job fails.
const REQUESTS: usize = 6;
/// How often one URL is tried before another one is asked for.
const TRIES: usize = 3;
/// How often S3 may refuse a transfer, or an input have the wrong content, before the job fails.
const REFUSALS: usize = 3;

/// The failure of a job whose result is on the worker's disk and does not get into S3. Another attempt uploads it again.
pub(crate) const UPLOAD_FAILED: &str = "Worker.UploadFailed";

/// The content type of a value that a handler has returned.
const JSON: &str = "application/json";

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

    fn take(&self) -> Option<SpooledResult> {
        self.result.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What a run has produced.
#[derive(Debug)]
pub(crate) enum Produced {
    /// A value that fits into a message.
    Value(Box<RawValue>),
    /// A file, which every attempt of the run uploads to a place of its own.
    File(SpooledResult),
}

/// Moves inputs and results.
pub(crate) struct ClaimCheck<L> {
    spool: Arc<Spool>,
    transfers: Transfers,
    journal: Journal,
    delivery: Arc<Delivery<L>>,
    /// The jobs that wait for a URL.
    grants: Grants,
    /// Results on the disk that are not answered yet, or that later attempts may ask for.
    results: Mutex<HashMap<RunKey, SpooledResult>>,
    /// How long a result is kept that a later attempt may ask for.
    remember: Duration,
}

/// What the claim check needs of the worker's configuration.
pub struct ClaimOptions {
    spool: Spool,
    transfers: Transfers,
    /// How long a result is kept that a later attempt may ask for.
    remember: Duration,
}

impl ClaimOptions {
    /// Reads the CAs that S3's certificate may be signed by.
    pub fn new(config: &Config) -> Result<Self, TlsError> {
        let tls = tls::transfer_config(config.ca.as_deref())?;
        Ok(Self {
            spool: Spool::new(&config.state_dir),
            transfers: Transfers::new(tls, config.proxy.clone()),
            remember: config.remember_answers,
        })
    }

    /// A claim check below a directory, for the engine's tests.
    #[cfg(test)]
    pub(crate) fn for_test(directory: &std::path::Path) -> Self {
        let tls =
            rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth();
        let transfers = Transfers::new(tls, None);
        Self { spool: Spool::new(directory), transfers, remember: Duration::from_hours(24) }
    }
}

impl<L: Link> ClaimCheck<L> {
    /// A claim check that continues with the results that an earlier process left behind.
    pub(crate) fn new(
        options: ClaimOptions,
        journal: Journal,
        delivery: Arc<Delivery<L>>,
        recovered: Vec<SpooledEntry>,
    ) -> Self {
        options.spool.keep_only(&recovered.iter().map(|entry| entry.file.clone()).collect());
        let results = recovered.into_iter().filter_map(|entry| {
            let sha256 = Sha256Sum::parse(&entry.sha256)?;
            let SpooledEntry { kind, key, file, bytes, content_type, .. } = entry;
            Some((RunKey { kind, key }, SpooledResult { file, bytes, sha256, content_type }))
        });

        Self {
            spool: Arc::new(options.spool),
            transfers: options.transfers,
            journal,
            delivery,
            grants: Grants::default(),
            results: Mutex::new(results.collect()),
            remember: options.remember,
        }
    }

    /// Hands a command to the job that waits for it. `false` if none does any more.
    pub(crate) fn give(&self, job_id: &JobId, command: Command) -> bool {
        self.grants.give(job_id, command)
    }

    /// The files of a job that is about to run.
    pub(crate) fn files(&self) -> JobFiles {
        JobFiles::new(Arc::clone(&self.spool))
    }

    /// Whether the result of this run is on the disk.
    pub(crate) fn holds(&self, key: &RunKey) -> bool {
        self.lock().contains_key(key)
    }

    /// The result of this run, if it is on the disk.
    pub(crate) fn held(&self, key: &RunKey) -> Option<Produced> {
        self.lock().get(key).cloned().map(Produced::File)
    }

    // ---- Inputs ------------------------------------------------------------------------------------------------------

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
            Some(Command::Download { input_ref, .. }) => Ok(input_ref),
            Some(Command::Refused { error, cause, .. }) => Err(TaskFailure::new(error, cause)),
            _ => Err(answers::input_unavailable("its URL has expired, and no new one has come")),
        }
    }

    /// Deletes the input of a job whose handler has ended.
    pub(crate) fn forget_input(&self, job: &JobMessage) {
        if job.input_ref.is_some() {
            self.spool.remove(&self.spool.input(&job.id()));
        }
    }

    // ---- Results -----------------------------------------------------------------------------------------------------

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
        loop {
            let ObjectRef { bucket, key } = match self.ask(job, &message).await {
                Some(Command::Upload { url, headers, result_ref, .. }) => {
                    match self.put(job, result, &url, &headers, &mut backoff).await? {
                        true => result_ref,
                        false => {
                            refusals += 1;
                            if refusals > REFUSALS {
                                return Err(TaskFailure::new(
                                    UPLOAD_FAILED,
                                    "S3 refuses the result; see the worker's log",
                                ));
                            }
                            continue;
                        }
                    }
                }
                Some(Command::Refused { error, cause, .. }) => return Err(TaskFailure::new(error, cause)),
                _ => {
                    return Err(TaskFailure::new(
                        UPLOAD_FAILED,
                        "no URL for the result has come; see docs/claim-check.md",
                    ));
                }
            };

            tracing::info!(job_id = %job.id(), trace_id = job.trace_id(), bytes, "result uploaded");
            let UploadRequest { bytes, sha256, content_type } = request;
            return Ok(ResultRef { bucket, key, bytes, sha256, content_type });
        }
    }

    /// Uploads by one URL. `false` if another one is needed.
    async fn put(
        &self,
        job: &JobMessage,
        result: &SpooledResult,
        url: &str,
        headers: &std::collections::BTreeMap<String, String>,
        backoff: &mut Backoff,
    ) -> Result<bool, TaskFailure> {
        let path = self.spool.path(&result.file);
        for _ in 0..TRIES {
            let Err(error) = self.transfers.put(url, headers.iter(), &path, result.bytes).await else {
                return Ok(true);
            };

            tracing::warn!(job_id = %job.id(), trace_id = job.trace_id(), "the result was not uploaded: {error}");
            match error {
                TransferError::File { path, error } => return Err(failed(&path, &error)),
                TransferError::Broken(_) => sleep(backoff.next()).await,
                TransferError::Refused(_) | TransferError::Mismatch(_) | TransferError::Expired => break,
            }
        }
        Ok(false)
    }

    /// Asks the cloud until it answers. `None` if it does not.
    async fn ask(&self, job: &JobMessage, message: &[u8]) -> Option<Command> {
        let mut wait = FIRST_ANSWER;
        for _ in 0..REQUESTS {
            let answer = self.grants.expect(&job.id());
            self.delivery.notify(message.to_vec(), Priority::Accepted).await;
            if let Ok(Ok(command)) = timeout(wait, answer).await {
                return Some(command);
            }

            tracing::warn!(
                job_id = %job.id(), trace_id = job.trace_id(),
                "no presigned URL has come within {wait:?}: it is asked for again"
            );
            wait = (wait * 2).min(LAST_ANSWER);
        }
        None
    }

    /// Deletes a result that all attempts of its run have answered; later, if another attempt may ask for it.
    pub(crate) fn answered(self: &Arc<Self>, key: &RunKey, remember: bool) {
        if !self.holds(key) {
            return;
        }
        let (this, key) = (Arc::clone(self), key.clone());
        let wait = if remember { self.remember } else { Duration::ZERO };
        tokio::spawn(async move {
            sleep(wait).await;
            let result = this.lock().remove(&key);
            if let Some(result) = result {
                this.journal.unspool(key.kind, key.key).await;
                this.remove(&result);
            }
        });
    }

    fn remove(&self, result: &SpooledResult) {
        self.spool.remove(&self.spool.path(&result.file));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RunKey, SpooledResult>> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
