use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::fields::{self, InvalidField};
use crate::limits::{CAUSE_CHARS, ERROR_CHARS, IOT_PAYLOAD_BYTES, cut};
use crate::{InvalidToken, JobId, JobMessage, TaskToken, present};

/// How far a job has come, as a worker says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// The worker has the job and answers for it.
    Accepted,
    /// The job still runs.
    Heartbeat,
    /// It has a result.
    Succeeded,
    /// It has none, and never will.
    Failed,
    /// It was told to stop, and did.
    Cancelled,
}

/// An error as `SendTaskFailure` takes it: what `Retry` and `Catch` match, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskFailure {
    /// Matched by `ErrorEquals`; at most 256 characters.
    pub error: String,
    /// For people; at most 32,768 characters.
    pub cause: String,
}

impl TaskFailure {
    /// Cuts both to what Step Functions takes, on a character boundary.
    pub fn new(error: impl AsRef<str>, cause: impl AsRef<str>) -> Self {
        Self {
            error: cut(error.as_ref(), ERROR_CHARS).into(),
            cause: cut(cause.as_ref(), CAUSE_CHARS).into(),
        }
    }
}

/// What a worker publishes to `{tenant}/to/lambda`. `TaskToken`, `result` and `exception` are the AWS
/// sample's; the rest is ours.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct AnswerMessage<'a> {
    task_token: &'a TaskToken,
    #[serde(skip_serializing_if = "Option::is_none")]
    job_id: Option<&'a JobId>,
    status: Status,
    #[serde(rename = "result", skip_serializing_if = "Option::is_none")]
    result: Option<&'a RawValue>,
    #[serde(rename = "exception", skip_serializing_if = "Option::is_none")]
    exception: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'a str>,
}

impl<'a> AnswerMessage<'a> {
    fn new(job: &'a JobMessage, status: Status) -> Self {
        Self {
            task_token: &job.task_token,
            job_id: job.job_id.as_ref(),
            status,
            result: None,
            exception: None,
            error: None,
            cause: None,
        }
    }

    /// `ACCEPTED`.
    pub fn accepted(job: &'a JobMessage) -> Vec<u8> {
        Self::new(job, Status::Accepted).bytes()
    }

    /// `HEARTBEAT`.
    pub fn heartbeat(job: &'a JobMessage) -> Vec<u8> {
        Self::new(job, Status::Heartbeat).bytes()
    }

    /// `SUCCEEDED` with its result; `None` when that is more than AWS IoT Core carries.
    pub fn succeeded(job: &'a JobMessage, result: &'a RawValue) -> Option<Vec<u8>> {
        let message = Self { result: Some(result), ..Self::new(job, Status::Succeeded) }.bytes();
        (message.len() <= IOT_PAYLOAD_BYTES).then_some(message)
    }

    /// `FAILED`, with the sample's `exception` beside our `Error` and `Cause`. The cause is cut until the
    /// message fits into what AWS IoT Core carries.
    pub fn failed(job: &'a JobMessage, failure: &TaskFailure) -> Vec<u8> {
        Self::failed_task(&job.task_token, job.job_id.as_ref(), failure)
    }

    /// [`AnswerMessage::failed`] for a message that was no job, but named a task.
    pub fn failed_task(token: &TaskToken, job_id: Option<&JobId>, failure: &TaskFailure) -> Vec<u8> {
        let mut cause = failure.cause.as_str();
        loop {
            let message = AnswerMessage {
                task_token: token,
                job_id,
                status: Status::Failed,
                result: Some(RawValue::NULL),
                exception: Some(&failure.error),
                error: Some(&failure.error),
                cause: Some(cause),
            }
            .bytes();
            if message.len() <= IOT_PAYLOAD_BYTES {
                return message;
            }
            cause = cut(cause, cause.chars().count() / 2);
        }
    }

    fn bytes(&self) -> Vec<u8> {
        // Strings and already valid JSON: there is nothing in it that serde_json could refuse.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// A worker's message as `task-token-done` gets it: the worker's own fields, and what the IoT rule stamps
/// on (`tenant`, `worker`, `certificate`, `receivedAt`), which never becomes part of a task's output.
#[derive(Debug)]
pub struct Answer {
    /// The task it is about.
    pub token: TaskToken,
    /// What to tell Step Functions.
    pub outcome: Outcome,
    /// The rule's `topic(1)`.
    pub tenant: Option<String>,
    /// The rule's `clientid()`.
    pub worker: Option<String>,
}

/// What a worker's message means for its task.
#[derive(Debug)]
pub enum Outcome {
    /// The worker has the job: a sign of life.
    Accepted,
    /// The job runs on: a sign of life.
    Heartbeat,
    /// The job's result, word for word.
    Succeeded(Box<RawValue>),
    /// The job's failure.
    Failed(TaskFailure),
}

/// A message that names no task: nothing can be told to Step Functions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAnswer {
    /// Not `{...}`, or a field twice.
    #[error("the message must be an object {{\"TaskToken\": ..., \"result\": ...}}: {0}")]
    Shape(String),
    /// No token, or not a string.
    #[error(transparent)]
    Field(#[from] InvalidField),
    /// A token that Step Functions cannot have made.
    #[error(transparent)]
    Token(#[from] InvalidToken),
}

#[derive(Deserialize)]
struct AnswerFields {
    #[serde(rename = "TaskToken")]
    task_token: Option<Box<RawValue>>,
    #[serde(rename = "Status")]
    status: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "present")]
    result: Option<Box<RawValue>>,
    exception: Option<Box<RawValue>>,
    #[serde(rename = "Error")]
    error: Option<Box<RawValue>>,
    #[serde(rename = "Cause")]
    cause: Option<Box<RawValue>>,
    tenant: Option<Box<RawValue>>,
    worker: Option<Box<RawValue>>,
}

impl Answer {
    /// The error of a task whose worker sent something that is neither a result nor a failure.
    pub const INVALID: &str = "TaskTokenDone.InvalidAnswer";
    /// The error of a failure that gives no name.
    pub const FAILED: &str = "Worker.Failed";
    /// The error of a job that was told to stop.
    pub const CANCELLED: &str = "Worker.Cancelled";

    /// Reads an event of `task-token-done`. A message that names its task but makes no sense otherwise is an
    /// [`Outcome::Failed`] that says so: no execution waits for a timeout it did not deserve.
    pub fn parse(event: &RawValue) -> Result<Self, InvalidAnswer> {
        if !event.get().starts_with('{') {
            return Err(InvalidAnswer::Shape(format!("it is {}", fields::json_kind(event))));
        }
        let fields: AnswerFields =
            serde_json::from_str(event.get()).map_err(|error| InvalidAnswer::Shape(error.to_string()))?;
        let token = fields::string("TaskToken", fields.task_token.as_deref())?
            .ok_or(InvalidField::Missing("TaskToken"))?;
        Ok(Self {
            token: TaskToken::parse(token)?,
            tenant: words(fields.tenant.as_deref()),
            worker: words(fields.worker.as_deref()),
            outcome: Outcome::read(fields),
        })
    }
}

impl Outcome {
    fn read(fields: AnswerFields) -> Self {
        let invalid = |cause: String| Self::Failed(TaskFailure::new(Answer::INVALID, cause));
        let exception = words(fields.exception.as_deref());
        let status = match fields::string("Status", fields.status.as_deref()) {
            Ok(status) => status,
            Err(error) => return invalid(error.to_string()),
        };
        match (status.as_deref(), fields.result) {
            (Some("ACCEPTED"), _) => Self::Accepted,
            (Some("HEARTBEAT"), _) => Self::Heartbeat,
            (Some("SUCCEEDED"), Some(result)) => Self::Succeeded(result),
            (Some("SUCCEEDED"), None) => invalid("Status is SUCCEEDED, but there is no result".into()),
            (Some(status @ ("FAILED" | "CANCELLED")), _) => {
                let default = if status == "FAILED" { Answer::FAILED } else { Answer::CANCELLED };
                let mut failure = sample_failure(exception, default);
                if let Some(error) = words(fields.error.as_deref()).filter(|error| !error.is_empty()) {
                    failure.error = error;
                }
                if let Some(cause) = words(fields.cause.as_deref()) {
                    failure.cause = cause;
                }
                Self::Failed(TaskFailure::new(failure.error, failure.cause))
            }
            (Some(_), _) => {
                invalid("Status must be ACCEPTED, HEARTBEAT, SUCCEEDED, FAILED or CANCELLED".into())
            }
            // The sample's worker sends no Status.
            (None, _) if exception.is_some() => Self::Failed(sample_failure(exception, Answer::FAILED)),
            (None, Some(result)) => Self::Succeeded(result),
            (None, None) => {
                invalid("the message has neither a Status, nor a result, nor an exception".into())
            }
        }
    }
}

/// The failure in the sample's `exception`: its worker sends the exception's class name, which a `Catch` can
/// match; anything with blanks in it is a text for people.
fn sample_failure(exception: Option<String>, default: &str) -> TaskFailure {
    let text = exception.unwrap_or_default();
    let is_name =
        !text.is_empty() && text.chars().count() <= ERROR_CHARS && !text.contains(char::is_whitespace);
    let error = if is_name { &text } else { default };
    TaskFailure::new(error, if text.is_empty() { "the worker gave no cause" } else { &text })
}

/// A field's text: a string's content, any other value as it is written.
fn words(value: Option<&RawValue>) -> Option<String> {
    let value = fields::given(value)?;
    Some(serde_json::from_str(value.get()).unwrap_or_else(|_| value.get().to_owned()))
}

#[cfg(test)]
mod tests;
