//! The claim check: large inputs and results travel over HTTPS, by presigned URLs that the cloud grants to single jobs.
//!
//! A large result is a file that the journal names, so that a process that dies uploads it again as a whole. URLs are
//! asked for when they are needed: they expire after an hour, and a job may run longer.

pub(crate) mod files;
mod inputs;
mod results;
pub(crate) mod spool;
mod transfer;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use postern_types::{Command, JobId, JobMessage, Sha256Sum};
use serde_json::value::RawValue;
use tokio::time::{sleep, timeout};

use crate::config::Config;
use crate::delivery::Delivery;
use crate::grants::Grants;
use crate::journal::{Journal, SpooledEntry};
use crate::link::{Link, Priority};
use crate::runs::RunKey;
use crate::tls::{self, TlsError};
use files::JobFiles;
use spool::{Spool, SpooledResult};
use transfer::Transfers;

pub use spool::ResultFile;

/// How long the first answer to a request for a URL may take. Lambda tries an event again after one and two minutes.
const FIRST_ANSWER: Duration = Duration::from_secs(30);
/// How long a later answer may take.
const LAST_ANSWER: Duration = Duration::from_mins(5);
/// How often a request for a URL is sent before the job fails.
const REQUESTS: usize = 6;
/// How often S3 may refuse a transfer, or an input have the wrong content, before the job fails.
const REFUSALS: usize = 3;

/// The failure of a job whose result is on the worker's disk and does not get into S3. Another attempt uploads it again.
pub(crate) const UPLOAD_FAILED: &str = "Worker.UploadFailed";

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
        Spool::remove(&self.spool.path(&result.file));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RunKey, SpooledResult>> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
