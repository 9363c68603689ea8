//! What the dispatcher publishes and the worker receives.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::claim::InputRef;
use crate::digest::short_sha256;
use crate::fields::{self, InvalidField, present};
use crate::token::{JobId, TaskToken};

/// A job, as the dispatcher publishes it to `{tenant}/to/worker`.
///
/// `Input` and `TaskToken` are the AWS sample's; all other fields are Postern's and are left out where they are unknown.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct JobMessage {
    /// The job's input, word for word; absent where [`JobMessage::input_ref`] takes its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<Box<RawValue>>,
    /// Where the input is kept, if it is too large for a message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_ref: Option<InputRef>,
    /// The token that the answer must carry.
    pub task_token: TaskToken,
    /// The job's id. Its presence tells the worker that the other side is Postern, which understands `ACCEPTED` and
    /// `HEARTBEAT`; the AWS sample's functions would take either for a result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_id: Option<JobId>,
    /// The execution's ARN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution: Option<String>,
    /// The name of the handler that runs the job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The time at which the task times out, as RFC 3339 in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// The longest time between two heartbeats that the task accepts, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeat_seconds: Option<u32>,
    /// The same for all attempts of one entry of a state, and different for everything else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// The name of the state that waits for the job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// The number of retries before this attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// The last progress of the same idempotency key, which an earlier attempt has reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resume: Option<Box<RawValue>>,
    /// The trace that the job belongs to: a `traceparent` of W3C Trace Context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_parent: Option<String>,
}

/// A message on a worker's topic that is not a valid job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct InvalidJob {
    /// The token of the task to fail, if the message contains exactly one.
    pub token: Option<TaskToken>,
    /// The reason, without the message's content.
    pub reason: String,
}

impl InvalidJob {
    /// Identifies the report about this payload: the same for each delivery, and different from every [`JobId`].
    pub fn report_id(payload: &[u8]) -> String {
        format!("report-{}", short_sha256(payload))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MessageFields {
    #[serde(default, deserialize_with = "present")]
    input: Option<Box<RawValue>>,
    input_ref: Option<Box<RawValue>>,
    job_id: Option<Box<RawValue>>,
    execution: Option<Box<RawValue>>,
    kind: Option<Box<RawValue>>,
    deadline: Option<Box<RawValue>>,
    heartbeat_seconds: Option<Box<RawValue>>,
    idempotency_key: Option<Box<RawValue>>,
    state: Option<Box<RawValue>>,
    attempt: Option<Box<RawValue>>,
    resume: Option<Box<RawValue>>,
    trace_parent: Option<Box<RawValue>>,
}

/// The token alone: other members that are wrong, or there twice, do not make the token ambiguous.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TokenField {
    task_token: Option<Box<RawValue>>,
}

impl JobMessage {
    /// Reads a payload of `{tenant}/to/worker`, Postern's or the AWS sample's.
    pub fn parse(payload: &[u8]) -> Result<Self, InvalidJob> {
        let no_task = |reason: String| InvalidJob { token: None, reason };
        let value: &RawValue = serde_json::from_slice(payload)
            .map_err(|error| no_task(format!("the message is not JSON: {error}")))?;
        let token = read_token(value).map_err(no_task)?;

        Self::read(value, token.clone()).map_err(|reason| InvalidJob { token: Some(token), reason })
    }

    fn read(value: &RawValue, token: TaskToken) -> Result<Self, String> {
        let fields: MessageFields = fields::object(value)?;
        Self::from_fields(fields, token).map_err(|error| error.to_string())
    }

    fn from_fields(fields: MessageFields, token: TaskToken) -> Result<Self, InvalidField> {
        let deadline = fields::string("Deadline", fields.deadline.as_deref())?
            .map(|date| date.parse().map_err(|_| InvalidField::Date { field: "Deadline" }));

        let input_ref = read_input_ref(fields.input_ref.as_deref())?;
        if fields.input.is_none() && input_ref.is_none() {
            return Err(InvalidField::Missing("Input"));
        }

        Ok(Self {
            input: fields.input,
            input_ref,
            job_id: fields.job_id.map(|_| token.job_id()),
            task_token: token,
            execution: fields::string("Execution", fields.execution.as_deref())?,
            kind: fields::name("Kind", fields.kind.as_deref())?,
            deadline: deadline.transpose()?,
            heartbeat_seconds: fields::seconds("HeartbeatSeconds", fields.heartbeat_seconds.as_deref())?,
            idempotency_key: fields::key("IdempotencyKey", fields.idempotency_key.as_deref())?,
            state: fields::string("State", fields.state.as_deref())?,
            attempt: fields::count("Attempt", fields.attempt.as_deref())?,
            resume: fields.resume,
            trace_parent: fields::string("TraceParent", fields.trace_parent.as_deref())?,
        })
    }

    /// The trace's id: the second part of [`JobMessage::trace_parent`]. `None` if there is no valid one.
    pub fn trace_id(&self) -> Option<&str> {
        let mut parts = self.trace_parent.as_deref()?.split('-');
        let (version, trace, parent) = (parts.next()?, parts.next()?, parts.next()?);

        let hex = |part: &str, length| {
            part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let valid =
            hex(version, 2) && hex(trace, 32) && hex(parent, 16) && trace.bytes().any(|byte| byte != b'0');
        valid.then_some(trace)
    }

    /// The job's id, whether or not the sender named it.
    pub fn id(&self) -> JobId {
        self.task_token.job_id()
    }
}

fn read_input_ref(value: Option<&RawValue>) -> Result<Option<InputRef>, InvalidField> {
    let Some(value) = fields::given(value) else { return Ok(None) };
    fields::object(value).map(Some).map_err(|_| InvalidField::Type {
        field: "InputRef",
        found: fields::json_kind(value),
        want: "an object with Bucket, Key, Url, Bytes and Sha256",
    })
}

fn read_token(value: &RawValue) -> Result<TaskToken, String> {
    let TokenField { task_token } = fields::object(value).map_err(|reason| {
        format!("the message must be an object {{\"Input\": ..., \"TaskToken\": ...}}: {reason}")
    })?;
    let token =
        fields::required_string("TaskToken", task_token.as_deref()).map_err(|error| error.to_string())?;
    TaskToken::parse(token).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
