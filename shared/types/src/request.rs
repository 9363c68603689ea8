//! What a state machine hands to the dispatcher.

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::claim::ObjectRef;
use crate::fields::{self, InvalidField, present};
use crate::idempotency::StateEntry;
use crate::job::JobMessage;
use crate::token::{InvalidToken, TaskToken};
use crate::topic::{InvalidTenant, Tenant};

/// A state machine's request to run a job: the payload with which it invokes the dispatcher.
///
/// `Input` and `TaskToken` are required, as in the AWS sample. Unknown fields are ignored.
///
/// ```
/// use postern_types::DispatchRequest;
/// use serde_json::value::RawValue;
///
/// let event = r#"{"Input": {"a": 15, "b": 42}, "TaskToken": "AQCE", "Job": {"Tenant": "plant-7"}}"#;
/// let request = DispatchRequest::parse(&RawValue::from_string(event.into())?)?;
/// assert_eq!(request.job.tenant.unwrap().as_str(), "plant-7");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct DispatchRequest {
    /// The job's input, word for word. `null` is a value; a missing `Input` is an error unless `Job.InputFrom` is given.
    pub input: Box<RawValue>,
    /// The token that the worker's answer closes the task with.
    pub token: TaskToken,
    /// The options of the job.
    pub job: JobOptions,
    /// The execution's ARN (`$$.Execution.Id`).
    pub execution: Option<String>,
    /// The name of the waiting state (`$$.State.Name`).
    pub state: Option<String>,
    /// The time at which the execution entered the state (`$$.State.EnteredTime`).
    pub entered_time: Option<String>,
    /// The number of retries before this attempt (`$$.State.RetryCount`).
    pub attempt: Option<u32>,
    /// The index in each enclosing Map (`$$.Map.Item.Index`), outermost first; empty outside a Map.
    pub item: Vec<u64>,
}

/// The member `Job` of a [`DispatchRequest`]. Every field is optional.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct JobOptions {
    /// The tenant whose worker runs the job. The dispatcher has a default.
    pub tenant: Option<Tenant>,
    /// The worker's handler for the job, 1 to 256 characters. The worker has a default.
    pub kind: Option<String>,
    /// A name of 1 to 256 characters that logs show to people.
    pub name: Option<String>,
    /// The state's own `TimeoutSeconds`: the time that the task waits for its result.
    pub timeout_seconds: Option<u32>,
    /// The state's own `HeartbeatSeconds`: the time that the task waits for the next heartbeat.
    pub heartbeat_seconds: Option<u32>,
    /// A key that replaces the one which the dispatcher computes.
    pub idempotency_key: Option<String>,
    /// The object in S3 that is the job's input, in the place of `Input`.
    pub input_from: Option<ObjectRef>,
}

impl JobOptions {
    /// The time after which Step Functions gives this attempt up unless a worker has answered: the shorter of
    /// `TimeoutSeconds` and `HeartbeatSeconds`. Step Functions ignores the answer to a job that is delivered later.
    pub fn expiry_seconds(&self) -> Option<u32> {
        [self.timeout_seconds, self.heartbeat_seconds].into_iter().flatten().min()
    }
}

/// The reason for which the dispatcher refuses a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequest {
    /// The event is not an object, or contains a field twice.
    #[error("the event must be an object {{\"Input\": ..., \"TaskToken\": ...}}: {0}")]
    Shape(String),
    /// One field is invalid.
    #[error(transparent)]
    Field(#[from] InvalidField),
    /// The task token is invalid.
    #[error(transparent)]
    Token(#[from] InvalidToken),
    /// The tenant's name is invalid.
    #[error("Job.Tenant: {0}")]
    Tenant(#[from] InvalidTenant),
    /// The job has two inputs.
    #[error("Job.InputFrom takes the place of Input; give one of the two")]
    TwoInputs,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RequestFields {
    #[serde(default, deserialize_with = "present")]
    input: Option<Box<RawValue>>,
    task_token: Option<Box<RawValue>>,
    job: Option<Box<RawValue>>,
    execution: Option<Box<RawValue>>,
    state: Option<Box<RawValue>>,
    entered_time: Option<Box<RawValue>>,
    attempt: Option<Box<RawValue>>,
    item: Option<Box<RawValue>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct JobFields {
    tenant: Option<Box<RawValue>>,
    kind: Option<Box<RawValue>>,
    name: Option<Box<RawValue>>,
    timeout_seconds: Option<Box<RawValue>>,
    heartbeat_seconds: Option<Box<RawValue>>,
    idempotency_key: Option<Box<RawValue>>,
    input_from: Option<Box<RawValue>>,
}

impl DispatchRequest {
    /// Reads an event of the dispatcher.
    pub fn parse(event: &RawValue) -> Result<Self, InvalidRequest> {
        let fields: RequestFields = fields::object(event).map_err(InvalidRequest::Shape)?;
        let token = fields::required_string("TaskToken", fields.task_token.as_deref())?;
        let job = JobOptions::parse(fields.job.as_deref())?;
        if job.input_from.is_some() && fields::given(fields.input.as_deref()).is_some() {
            return Err(InvalidRequest::TwoInputs);
        }
        let elsewhere = job.input_from.as_ref().map(|_| RawValue::NULL.to_owned());

        Ok(Self {
            input: fields.input.or(elsewhere).ok_or(InvalidField::Missing("Input"))?,
            token: TaskToken::parse(token)?,
            job,
            execution: fields::string("Execution", fields.execution.as_deref())?,
            state: fields::string("State", fields.state.as_deref())?,
            entered_time: fields::string("EnteredTime", fields.entered_time.as_deref())?,
            attempt: fields::count("Attempt", fields.attempt.as_deref())?,
            item: fields::indexes("Item", fields.item.as_deref())?,
        })
    }

    /// The key that all attempts of this task share: `Job.IdempotencyKey`, else one made of the state machine's context,
    /// else the job's id where the state machine passes no context.
    pub fn idempotency_key(&self) -> String {
        if let Some(key) = &self.job.idempotency_key {
            return key.clone();
        }
        match (&self.execution, &self.state, &self.entered_time) {
            (Some(execution), Some(state), Some(entered_time)) => {
                StateEntry { execution, state, entered_time, item: &self.item }.key()
            }
            _ => self.token.job_id().as_str().to_owned(),
        }
    }

    /// The message for the worker. `now` is the time at which the task began to wait; `trace_parent` is a `traceparent` of
    /// W3C Trace Context.
    pub fn into_message(self, now: Timestamp, trace_parent: Option<String>) -> JobMessage {
        let timeout = self.job.timeout_seconds.map(|seconds| SignedDuration::from_secs(seconds.into()));

        JobMessage {
            idempotency_key: Some(self.idempotency_key()),
            input: Some(self.input),
            input_ref: None,
            job_id: Some(self.token.job_id()),
            task_token: self.token,
            execution: self.execution,
            kind: self.job.kind,
            deadline: timeout.map(|timeout| now.saturating_add(timeout).unwrap_or(Timestamp::MAX)),
            heartbeat_seconds: self.job.heartbeat_seconds,
            state: self.state,
            attempt: self.attempt,
            resume: None,
            trace_parent,
        }
    }
}

impl JobOptions {
    fn parse(job: Option<&RawValue>) -> Result<Self, InvalidRequest> {
        let job: JobFields = match fields::given(job) {
            Some(job) if !job.get().starts_with('{') => {
                let found = fields::json_kind(job);
                return Err(InvalidField::Type { field: "Job", found, want: "an object" }.into());
            }
            Some(job) => fields::object(job).map_err(InvalidRequest::Shape)?,
            None => JobFields::default(),
        };
        let tenant = fields::string("Job.Tenant", job.tenant.as_deref())?;

        Ok(Self {
            tenant: tenant.as_deref().map(Tenant::parse).transpose()?,
            kind: fields::name("Job.Kind", job.kind.as_deref())?,
            name: fields::name("Job.Name", job.name.as_deref())?,
            timeout_seconds: fields::seconds("Job.TimeoutSeconds", job.timeout_seconds.as_deref())?,
            heartbeat_seconds: fields::seconds("Job.HeartbeatSeconds", job.heartbeat_seconds.as_deref())?,
            idempotency_key: fields::key("Job.IdempotencyKey", job.idempotency_key.as_deref())?,
            input_from: input_from(job.input_from.as_deref())?,
        })
    }
}

/// Reads the place of an input. A `ResultRef` is one, so that a job can read what an earlier one has written.
fn input_from(value: Option<&RawValue>) -> Result<Option<ObjectRef>, InvalidField> {
    let Some(value) = fields::given(value) else { return Ok(None) };
    let want = "an object with Bucket and Key";
    let wrong = InvalidField::Type { field: "Job.InputFrom", found: fields::json_kind(value), want };
    match fields::object::<ObjectRef>(value) {
        Ok(object) if !object.bucket.is_empty() && !object.key.is_empty() => Ok(Some(object)),
        _ => Err(wrong),
    }
}

#[cfg(test)]
mod tests;
