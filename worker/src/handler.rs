//! Handlers: the user's own code, what it sees of its job, and the table that finds it by the job's kind.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use jiff::Timestamp;
use postern_types::{AnswerMessage, JobId, JobMessage, TaskFailure};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use tokio_util::sync::CancellationToken;

use crate::claim::files::{JobFiles, JobInput};
use crate::claim::spool::ResultFile;
use crate::reports::Reporter;

/// Runs jobs of one kind. One handler serves all jobs of its kind, several at a time.
///
/// ```
/// use postern_worker::{Handler, JobContext, Policy, TaskFailure};
///
/// struct RowCount;
///
/// impl Handler for RowCount {
///     type Output = u64;
///
///     /// Counting rows twice does no harm.
///     fn policy(&self) -> Policy {
///         Policy::Idempotent
///     }
///
///     async fn run(&self, job: JobContext) -> Result<u64, TaskFailure> {
///         let table: String = job.input()?;
///         count(&table).map_err(|error| TaskFailure::new("Db.Unavailable", error))
///     }
/// }
/// # fn count(_: &str) -> Result<u64, String> { Ok(0) }
/// ```
pub trait Handler: Send + Sync + 'static {
    /// The job's result, which becomes `result` in the task's output. `Box<RawValue>` passes JSON text through unchanged.
    ///
    /// AWS IoT Core carries 131,072 bytes of JSON with their envelope. A larger result travels through the claim check if
    /// the stack has one, and becomes `ResultRef` in the task's output. See also [`JobContext::result_file`].
    type Output: Serialize + Send;

    /// What happens to a job of this handler that was running when the worker died.
    fn policy(&self) -> Policy {
        Policy::Once
    }

    /// Runs one job. The `error` of a failure is what the state machine's `Retry` and `Catch` match.
    ///
    /// The handler may block its thread: other jobs, heartbeats and messages do not wait for it. A handler that
    /// runs long should return soon after [`JobContext::cancelled`], because nobody waits for its result then. Five
    /// seconds later the handler's task is dropped at its next await.
    fn run(&self, job: JobContext) -> impl Future<Output = Result<Self::Output, TaskFailure>> + Send;
}

/// What happens to a job that was running when the worker died, by a crash or a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// The job does not run again. It fails with `Worker.Interrupted`, which the state machine can retry or
    /// catch. For work whose effect must not happen twice.
    #[default]
    Once,
    /// The job runs again. For work that may be repeated, such as reading.
    Idempotent,
    /// The job runs again, and the handler makes sure that its effect happens once for each
    /// [`JobContext::idempotency_key`], for example by storing the key in the same database transaction. The
    /// worker remembers the result by the key: a later attempt receives it without another run.
    ExactlyOnce,
}

/// What a handler sees of its job.
#[derive(Debug)]
pub struct JobContext {
    job: Arc<JobMessage>,
    input: JobInput,
    files: JobFiles,
    cancelled: CancellationToken,
    reporter: Reporter,
}

impl JobContext {
    /// The error of a job whose input does not have the form that its handler expects.
    pub const INVALID_INPUT: &str = "Worker.InvalidInput";

    pub(crate) fn new(
        job: Arc<JobMessage>,
        input: JobInput,
        files: JobFiles,
        cancelled: CancellationToken,
        reporter: Reporter,
    ) -> Self {
        Self { job, input, files, cancelled, reporter }
    }

    /// A job with this input, for the tests of a handler. It belongs to no execution and has no deadline.
    ///
    /// ```
    /// use postern_worker::JobContext;
    ///
    /// let job = JobContext::for_test(&["customers", "orders"]);
    /// assert_eq!(job.input::<Vec<String>>().unwrap(), ["customers", "orders"]);
    /// ```
    ///
    /// # Panics
    /// If the input cannot be written as JSON.
    pub fn for_test<T: Serialize + ?Sized>(input: &T) -> Self {
        let message = serde_json::json!({"TaskToken": "test", "Input": input}).to_string();
        match JobMessage::parse(message.as_bytes()) {
            Ok(job) => Self::of(Arc::new(job), CancellationToken::new()),
            Err(invalid) => panic!("not a job: {invalid}"),
        }
    }

    /// A job of no worker, with the input of its message. What it reports goes nowhere.
    pub(crate) fn of(job: Arc<JobMessage>, cancelled: CancellationToken) -> Self {
        let input = JobInput { value: job.input.clone(), file: None };
        let reporter = Reporter::new(Arc::default(), job.id(), false);
        Self::new(job, input, JobFiles::for_test(), cancelled, reporter)
    }

    /// Where the job's reports go.
    #[cfg_attr(not(feature = "exec"), expect(dead_code, reason = "only exec reports from another place"))]
    pub(crate) fn reporter(&self) -> &Reporter {
        &self.reporter
    }

    /// The job's input as a `T`. If the input has another form, the result is the failure
    /// `Worker.InvalidInput`, whose cause names the place.
    pub fn input<'a, T: Deserialize<'a>>(&'a self) -> Result<T, TaskFailure> {
        if let (None, Some(file)) = (&self.input.value, &self.input.file) {
            let cause = format!(
                "the job's input is a file ({}) that is too large for the memory, or no JSON; the handler must read it \
                 with input_file",
                file.display()
            );
            return Err(TaskFailure::new(Self::INVALID_INPUT, cause));
        }
        serde_json::from_str(self.raw_input().get())
            .map_err(|error| TaskFailure::new(Self::INVALID_INPUT, format!("the job's input: {error}")))
    }

    /// The JSON text of the job's input, exactly as the state machine passed it. An input that is only a file is `null`
    /// here.
    pub fn raw_input(&self) -> &RawValue {
        self.input.value.as_deref().unwrap_or(RawValue::NULL)
    }

    /// The job's input as a file, if it came through the claim check. One of at most 8 MiB that is JSON is a value too.
    /// The file is deleted when the handler has ended.
    pub fn input_file(&self) -> Option<&Path> {
        self.input.file.as_deref()
    }

    /// A file for a result that is large, or that is made piece by piece. [`ResultFile::finish`] makes it the job's
    /// result, which travels through the claim check and takes the place of what the handler returns.
    pub fn result_file(&self, content_type: &str) -> Result<ResultFile, TaskFailure> {
        self.files.result_file(&self.job, content_type)
    }

    /// Whether a message with this result is small enough for AWS IoT Core.
    #[cfg_attr(not(feature = "files"), expect(dead_code, reason = "only files choose by the size"))]
    pub(crate) fn fits(&self, result: &RawValue) -> bool {
        AnswerMessage::succeeded(&self.job, result).is_some()
    }

    /// The files of a job under test.
    #[cfg(test)]
    pub(crate) fn files(&self) -> JobFiles {
        self.files.clone()
    }

    /// The public name of this attempt, for logs. A retry of the task has another one.
    pub fn job_id(&self) -> JobId {
        self.job.id()
    }

    /// The key that all attempts of one task share: redeliveries, retries and redrives of one entry of a state.
    /// Two items of a Map, two entries of a state in a loop and two executions have different keys.
    ///
    /// Without any context, as with the AWS sample's state machine, the key is the job id.
    pub fn idempotency_key(&self) -> String {
        idempotency_key(&self.job)
    }

    /// The ARN of the execution, if the state machine passes it.
    pub fn execution(&self) -> Option<&str> {
        self.job.execution.as_deref()
    }

    /// The name of the state that waits for the job, if the state machine passes it.
    pub fn state(&self) -> Option<&str> {
        self.job.state.as_deref()
    }

    /// The number of retries before this attempt, if the state machine passes it.
    pub fn attempt(&self) -> Option<u32> {
        self.job.attempt
    }

    /// The `traceparent` of W3C Trace Context that the dispatcher passes on, for the calls that the handler makes.
    pub fn trace_parent(&self) -> Option<&str> {
        self.job.trace_parent.as_deref()
    }

    /// The time at which the state machine stops waiting, if it has a timeout.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.job.deadline
    }

    /// Reports how far the job is: to whoever looks on, and to the next attempt, which gets the value from
    /// [`JobContext::resume`].
    ///
    /// A number is a percentage and a string is a message for people. An object is both if it has the members `percent`
    /// and `message`. The value may have 32,768 bytes of JSON; a larger one is left out, with a warning in the log.
    ///
    /// The call does not wait. A handler may report as often as it likes: the worker sends the last value, at most once a
    /// second. A report may be lost, for example with the connection; the job's result never is.
    ///
    /// ```
    /// # use postern_worker::JobContext;
    /// # let job = JobContext::for_test(&());
    /// job.progress(&serde_json::json!({"percent": 70, "message": "row 700 of 1000", "row": 700}));
    /// ```
    pub fn progress<T: Serialize + ?Sized>(&self, value: &T) {
        self.reporter.progress(value);
    }

    /// Adds lines to the job's log, each cut to 1,000 characters. Whoever looks on sees the newest 200 lines, or 20 KB.
    /// The call does not wait.
    pub fn log(&self, text: impl AsRef<str>) {
        self.reporter.log(text.as_ref());
    }

    /// What an earlier attempt of the same task has last reported with [`JobContext::progress`]. `None` in the first
    /// attempt, and if the value does not have the form of `T`: then the job begins at its beginning.
    ///
    /// The value may be up to some seconds older than the work that was done, so the work after it must bear to be done
    /// again.
    pub fn resume<'a, T: Deserialize<'a>>(&'a self) -> Option<T> {
        let value = self.job.resume.as_ref()?;
        match serde_json::from_str(value.get()) {
            Ok(value) => Some(value),
            Err(error) => {
                tracing::warn!(
                    job_id = %self.job_id(),
                    "the progress of an earlier attempt is not used, because it has another form: {error}"
                );
                None
            }
        }
    }

    /// Waits until the job should stop: it was cancelled, its deadline has passed, or the worker's drain time is over.
    pub async fn cancelled(&self) {
        self.cancelled.cancelled().await;
    }

    /// Whether the job should stop, for handlers that block.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.is_cancelled()
    }
}

/// The job's own key, or its id if the message has none.
pub(crate) fn idempotency_key(job: &JobMessage) -> String {
    job.idempotency_key.clone().unwrap_or_else(|| job.id().to_string())
}

type Run = Pin<Box<dyn Future<Output = Result<Box<RawValue>, TaskFailure>> + Send>>;
type Start = Box<dyn Fn(JobContext) -> Run + Send + Sync>;

/// The handlers by job kind.
#[derive(Default)]
pub struct Registry(BTreeMap<String, Registered>);

struct Registered {
    policy: Policy,
    start: Start,
}

impl Registry {
    /// A table without handlers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets `handler` run the jobs whose `Kind` is `kind`, instead of the handler that did so before.
    #[must_use]
    pub fn on<H: Handler>(mut self, kind: impl Into<String>, handler: H) -> Self {
        let (policy, handler) = (handler.policy(), Arc::new(handler));
        let start: Start = Box::new(move |job| {
            let handler = Arc::clone(&handler);
            Box::pin(async move {
                let output = handler.run(job).await?;
                to_raw_value(&output).map_err(|error| {
                    let cause = format!("the result cannot be written as JSON: {error}");
                    TaskFailure::new("Worker.InvalidResult", cause)
                })
            })
        });

        self.0.insert(kind.into(), Registered { policy, start });
        self
    }

    /// The kinds that have a handler, in alphabetical order.
    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Runs one job with the handler of its kind, for tests and benchmarks of handlers: without a broker, a journal or a
    /// deadline.
    pub async fn run(&self, kind: &str, job: JobContext) -> Result<Box<RawValue>, TaskFailure> {
        self.start(kind, job)?.await
    }

    /// The policy of the kind's handler. A kind without a handler has the strictest policy.
    pub(crate) fn policy(&self, kind: &str) -> Policy {
        self.0.get(kind).map_or(Policy::Once, |handler| handler.policy)
    }

    /// Prepares the run of one job, or returns the failure of a job whose kind has no handler.
    pub(crate) fn start(&self, kind: &str, job: JobContext) -> Result<Run, TaskFailure> {
        self.0.get(kind).map(|handler| (handler.start)(job)).ok_or_else(|| {
            let kinds = self.kinds().collect::<Vec<_>>().join(", ");
            let cause = format!("this worker has no handler for the kind {kind:?}; it has: {kinds}");
            TaskFailure::new("Worker.UnknownKind", cause)
        })
    }
}
