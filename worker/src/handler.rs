use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use jiff::Timestamp;
use postern_types::{JobId, JobMessage, TaskFailure};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use tokio_util::sync::CancellationToken;

/// What runs a job. One handler serves all jobs of its kind, several at a time.
pub trait Handler: Send + Sync + 'static {
    /// The job's result, which becomes `result` in the task's output. At most 131,072 bytes of JSON with its
    /// envelope, as AWS IoT Core carries no more; `Box<RawValue>` passes text through unchanged.
    type Output: Serialize + Send;

    /// Runs one job. A failure's `error` is what the state machine's `Retry` and `Catch` match. May block: no
    /// other job, heartbeat or message waits for it. A handler that runs long should return soon after
    /// [`JobContext::cancelled`]; nobody waits for its result any more.
    fn run(&self, job: JobContext) -> impl Future<Output = Result<Self::Output, TaskFailure>> + Send;
}

/// What a handler sees of its job.
#[derive(Debug)]
pub struct JobContext {
    job: Arc<JobMessage>,
    cancelled: CancellationToken,
}

impl JobContext {
    /// The error of a job whose input is not what its handler takes.
    pub const INVALID_INPUT: &str = "Worker.InvalidInput";

    pub(crate) fn new(job: Arc<JobMessage>, cancelled: CancellationToken) -> Self {
        Self { job, cancelled }
    }

    /// The job's input as `T`; an input that does not fit is the failure `Worker.InvalidInput`, which says
    /// where it does not.
    pub fn input<'a, T: Deserialize<'a>>(&'a self) -> Result<T, TaskFailure> {
        serde_json::from_str(self.job.input.get())
            .map_err(|error| TaskFailure::new(Self::INVALID_INPUT, format!("the job's input: {error}")))
    }

    /// The job's input, word for word.
    pub fn raw_input(&self) -> &RawValue {
        &self.job.input
    }

    /// The job's public name: use it in logs.
    pub fn job_id(&self) -> JobId {
        self.job.id()
    }

    /// When the state machine stops waiting, if it said so.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.job.deadline
    }

    /// Waits until the job should stop: its deadline has passed, or the worker's drain time has.
    pub async fn cancelled(&self) {
        self.cancelled.cancelled().await;
    }

    /// Whether the job should stop, for handlers that block.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.is_cancelled()
    }
}

type Run = Pin<Box<dyn Future<Output = Result<Box<RawValue>, TaskFailure>> + Send>>;
type Start = Box<dyn Fn(JobContext) -> Run + Send + Sync>;

/// The handlers by job kind.
#[derive(Default)]
pub struct Registry(BTreeMap<String, Start>);

impl Registry {
    /// No handlers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets `handler` run the jobs whose `Kind` is `kind`, in the place of the one that did before.
    #[must_use]
    pub fn on<H: Handler>(mut self, kind: impl Into<String>, handler: H) -> Self {
        let handler = Arc::new(handler);
        let start: Start = Box::new(move |job| {
            let handler = Arc::clone(&handler);
            Box::pin(async move {
                let output = handler.run(job).await?;
                to_raw_value(&output).map_err(|error| {
                    TaskFailure::new("Worker.InvalidResult", format!("the result cannot be JSON: {error}"))
                })
            })
        });
        self.0.insert(kind.into(), start);
        self
    }

    /// The kinds there are handlers for, in order.
    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The running of one job, or the failure of one that nobody here can run.
    pub(crate) fn start(&self, kind: &str, job: JobContext) -> Result<Run, TaskFailure> {
        self.0.get(kind).map(|start| start(job)).ok_or_else(|| {
            let kinds = self.kinds().collect::<Vec<_>>().join(", ");
            TaskFailure::new(
                "Worker.UnknownKind",
                format!("this worker has no handler for the kind {kind:?}; it has: {kinds}"),
            )
        })
    }
}
