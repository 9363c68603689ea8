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
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use postern_types::{Command, JobId, JobMessage, Sha256Sum, Topic};
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

/// The seconds for which each request for a URL waits for its answer, once the cloud has answered this process. Lambda
/// tries an event again after one and two minutes.
const WAITS: [u64; 6] = [30, 60, 120, 240, 300, 300];
/// The same for a cloud that has never answered: then it is likely that no answer can come.
const FIRST_WAITS: [u64; 3] = [10, 20, 30];
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
    /// Whether the cloud has answered a request of this process.
    is_answered: AtomicBool,
    /// The topic on which the cloud answers requests for a URL.
    command_topic: Topic,
    /// Results on the disk that are not answered yet, or that later attempts may ask for.
    results: Mutex<HashMap<RunKey, SpooledResult>>,
    /// How long a result is kept that a later attempt may ask for.
    remember: Duration,
}

/// What the claim check needs of the worker's configuration.
pub struct ClaimOptions {
    spool: Spool,
    transfers: Transfers,
    /// The topic on which the cloud answers requests for a URL.
    command_topic: Topic,
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
            command_topic: config.command_topic.clone(),
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
        let command_topic = Topic::parse("t/to/worker/w").unwrap();
        Self { spool: Spool::new(directory), transfers, command_topic, remember: Duration::from_hours(24) }
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
            is_answered: AtomicBool::new(false),
            command_topic: options.command_topic,
            results: Mutex::new(results.collect()),
            remember: options.remember,
        }
    }

    /// Hands a command to the job that waits for it. `false` if none does any more.
    pub(crate) fn give(&self, job_id: &JobId, command: Command) -> bool {
        self.is_answered.store(true, Ordering::Relaxed);
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

    /// Asks the cloud until it answers. The error says why no answer comes, and what would be right.
    async fn ask(&self, job: &JobMessage, message: &[u8]) -> Result<Command, String> {
        let (mut requests, mut waited) = (0, Duration::ZERO);
        while let Some(&seconds) = self.waits().get(requests) {
            let answer = self.grants.expect(&job.id());
            let is_published = self.delivery.notify(message.to_vec(), Priority::Accepted).await;
            // A connection subscribes before it publishes.
            if is_published && *self.delivery.link.controlled().borrow() == 0 {
                return Err(self.refused());
            }
            let wait = Duration::from_secs(seconds);
            if let Ok(Ok(command)) = timeout(wait, answer).await {
                return Ok(command);
            }

            (requests, waited) = (requests + 1, waited + wait);
            tracing::warn!(
                job_id = %job.id(), trace_id = job.trace_id(), requests,
                "no presigned URL has come within {wait:?}"
            );
        }
        Err(self.unanswered(requests, waited))
    }

    fn waits(&self) -> &'static [u64] {
        if self.is_answered.load(Ordering::Relaxed) { &WAITS } else { &FIRST_WAITS }
    }

    /// Why a worker whose IoT policy is older than the claim check gets no URL.
    fn refused(&self) -> String {
        format!(
            "the broker refuses the worker's subscription to {}, where URLs for large inputs and results come; give the \
             worker's certificate the policy of this version (iot:Subscribe and iot:Receive on that topic)",
            self.command_topic
        )
    }

    fn unanswered(&self, requests: usize, waited: Duration) -> String {
        let (topic, seconds) = (&self.command_topic, waited.as_secs());
        let silence = format!("no URL has come on {topic} within {seconds} seconds, to {requests} requests");
        if self.is_answered.load(Ordering::Relaxed) {
            return silence;
        }
        format!(
            "{silence}, nor any answer since the worker started; the worker's policy must allow iot:Receive on that topic, \
             and the stack must be of the worker's version"
        )
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
