//! What a worker publishes about a job, and how `task-token-done` reads it.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::claim::{ResultRef, UploadRequest};
use crate::fields::{self, InvalidField, present};
use crate::job::JobMessage;
use crate::limits::{CAUSE_CHARS, ERROR_CHARS, IOT_PAYLOAD_BYTES, cut};
use crate::token::{InvalidToken, JobId, TaskToken};

/// The `Status` of an [`AnswerMessage`].
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "UPPERCASE")]
enum Status {
    Accepted,
    Heartbeat,
    Succeeded,
    Failed,
    Cancelled,
    Upload,
    Download,
}

/// A failure, as `SendTaskFailure` takes it: an error that `Retry` and `Catch` match, and a cause for people.
///
/// ```
/// let failure = postern_types::TaskFailure::new("Db.Locked", "row 7 is locked by another transaction");
/// assert_eq!(failure.error(), "Db.Locked");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskFailure {
    error: String,
    cause: String,
}

impl TaskFailure {
    /// Makes a failure. The error is cut to 256 and the cause to 32,768 characters, the limits of Step Functions.
    pub fn new(error: impl AsRef<str>, cause: impl AsRef<str>) -> Self {
        Self {
            error: cut(error.as_ref(), ERROR_CHARS).into(),
            cause: cut(cause.as_ref(), CAUSE_CHARS).into(),
        }
    }

    /// The name that `ErrorEquals` matches; at most 256 characters.
    pub fn error(&self) -> &str {
        &self.error
    }

    /// The explanation for people; at most 32,768 characters.
    pub fn cause(&self) -> &str {
        &self.cause
    }
}

/// An answer, as a worker publishes it to `{tenant}/to/lambda`.
///
/// `TaskToken`, `result` and `exception` are the AWS sample's fields; `JobId`, `Status`, `Error` and `Cause` are Postern's.
///
/// ```
/// use postern_types::{AnswerMessage, JobMessage};
///
/// let job = JobMessage::parse(br#"{"Input": 1, "TaskToken": "abc"}"#)?;
/// assert_eq!(AnswerMessage::heartbeat(&job), br#"{"TaskToken":"abc","Status":"HEARTBEAT"}"#);
/// # Ok::<(), postern_types::InvalidJob>(())
/// ```
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
    #[serde(flatten)]
    upload: Option<&'a UploadRequest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result_ref: Option<&'a ResultRef>,
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
            upload: None,
            result_ref: None,
        }
    }

    /// `ACCEPTED`: the worker has the job and will answer.
    pub fn accepted(job: &'a JobMessage) -> Vec<u8> {
        Self::new(job, Status::Accepted).bytes()
    }

    /// `HEARTBEAT`: the job still waits or runs.
    pub fn heartbeat(job: &'a JobMessage) -> Vec<u8> {
        Self::new(job, Status::Heartbeat).bytes()
    }

    /// `SUCCEEDED`, with the job's result. `None` if the message exceeds the payload limit of AWS IoT Core.
    pub fn succeeded(job: &'a JobMessage, result: &'a RawValue) -> Option<Vec<u8>> {
        let message = Self { result: Some(result), ..Self::new(job, Status::Succeeded) }.bytes();
        (message.len() <= IOT_PAYLOAD_BYTES).then_some(message)
    }

    /// `SUCCEEDED`, with a result that is in S3.
    pub fn stored(job: &'a JobMessage, result: &'a ResultRef) -> Vec<u8> {
        Self { result_ref: Some(result), ..Self::new(job, Status::Succeeded) }.bytes()
    }

    /// `FAILED`, with the sample's `exception` beside Postern's `Error` and `Cause`. The cause is cut until the message
    /// fits into the payload limit of AWS IoT Core.
    pub fn failed(job: &'a JobMessage, failure: &TaskFailure) -> Vec<u8> {
        Self::failed_task(&job.task_token, job.job_id.as_ref(), failure)
    }

    /// `FAILED` for a message that names a task but is not a valid job.
    pub fn failed_task(token: &TaskToken, job_id: Option<&JobId>, failure: &TaskFailure) -> Vec<u8> {
        Self::ended(token, job_id, Status::Failed, failure)
    }

    /// `CANCELLED`: the job was ended before its time. To the AWS sample it is a failure.
    pub fn cancelled(job: &'a JobMessage, failure: &TaskFailure) -> Vec<u8> {
        Self::ended(&job.task_token, job.job_id.as_ref(), Status::Cancelled, failure)
    }

    /// `UPLOAD`: the worker asks for a place in S3 for a result that is too large for a message.
    pub fn upload(job: &'a JobMessage, request: &'a UploadRequest) -> Vec<u8> {
        Self { upload: Some(request), ..Self::new(job, Status::Upload) }.bytes()
    }

    /// `DOWNLOAD`: the worker asks for a new presigned URL for the job's input.
    pub fn download(job: &'a JobMessage) -> Vec<u8> {
        Self::new(job, Status::Download).bytes()
    }

    fn ended(token: &TaskToken, job_id: Option<&JobId>, status: Status, failure: &TaskFailure) -> Vec<u8> {
        // `TaskFailure` bounds the error, so a message with an empty cause always fits and the loop ends.
        let mut cause = failure.cause.as_str();
        loop {
            let message = AnswerMessage {
                task_token: token,
                job_id,
                status,
                result: Some(RawValue::NULL),
                exception: Some(&failure.error),
                error: Some(&failure.error),
                cause: Some(cause),
                upload: None,
                result_ref: None,
            }
            .bytes();
            if message.len() <= IOT_PAYLOAD_BYTES {
                return message;
            }

            cause = cut(cause, cause.chars().count() / 2);
        }
    }

    fn bytes(&self) -> Vec<u8> {
        // Strings and valid JSON: serde_json has nothing to refuse.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// A worker's answer, as `task-token-done` receives it.
///
/// The IoT rule adds `tenant`, `worker`, `certificate` and `receivedAt` to the worker's own fields. They never become
/// part of a task's output.
#[derive(Debug)]
pub struct Answer {
    /// The token of the task that the answer belongs to.
    pub token: TaskToken,
    /// What the answer means for the task.
    pub outcome: Outcome,
    /// The tenant to whose topic the worker published: the rule's `topic(1)`.
    pub tenant: Option<String>,
    /// The worker's MQTT client id: the rule's `clientid()`.
    pub worker: Option<String>,
    /// The id of the certificate that the worker connected with: the rule's `principal()`.
    pub certificate: Option<String>,
}

/// What a worker's answer means for its task.
#[derive(Debug)]
pub enum Outcome {
    /// The worker has the job. The task's heartbeat timer starts again.
    Accepted,
    /// The job still waits or runs. The task's heartbeat timer starts again.
    Heartbeat,
    /// The job succeeded with this result, word for word.
    Succeeded(Box<RawValue>),
    /// The job succeeded, and its result is in S3.
    Stored(ResultRef),
    /// The job failed.
    Failed(TaskFailure),
    /// The job was cancelled: it did not start, or its handler was ended.
    Cancelled(TaskFailure),
    /// The worker asks for a place in S3 for a large result. The task goes on.
    Upload(UploadRequest),
    /// The worker asks for a new presigned URL for the job's input. The task goes on.
    Download,
}

/// The reason for which a message belongs to no task. Step Functions cannot be told about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAnswer {
    /// The message is not an object, or contains a field twice.
    #[error("the message must be an object {{\"TaskToken\": ..., \"result\": ...}}: {0}")]
    Shape(String),
    /// The token is missing or not a string.
    #[error(transparent)]
    Field(#[from] InvalidField),
    /// Step Functions cannot have made the token.
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
    #[serde(rename = "ResultRef")]
    result_ref: Option<Box<RawValue>>,
    #[serde(rename = "Bytes")]
    bytes: Option<Box<RawValue>>,
    #[serde(rename = "Sha256")]
    sha256: Option<Box<RawValue>>,
    #[serde(rename = "ContentType")]
    content_type: Option<Box<RawValue>>,
    tenant: Option<Box<RawValue>>,
    worker: Option<Box<RawValue>>,
    certificate: Option<Box<RawValue>>,
}

impl Answer {
    /// The error of a task whose answer is neither a result, a failure nor a heartbeat.
    pub const INVALID: &str = "TaskTokenDone.InvalidAnswer";
    /// The error of a failure without a name.
    pub const FAILED: &str = "Worker.Failed";
    /// The error of a job that was cancelled.
    pub const CANCELLED: &str = "Worker.Cancelled";

    /// Reads an event of `task-token-done`.
    ///
    /// A message that names its task but is invalid otherwise becomes [`Outcome::Failed`] with the error
    /// [`Answer::INVALID`], so that the execution does not wait for a timeout.
    pub fn parse(event: &RawValue) -> Result<Self, InvalidAnswer> {
        let fields: AnswerFields = fields::object(event).map_err(InvalidAnswer::Shape)?;
        let token = fields::required_string("TaskToken", fields.task_token.as_deref())?;

        Ok(Self {
            token: TaskToken::parse(token)?,
            tenant: text(fields.tenant.as_deref()),
            worker: text(fields.worker.as_deref()),
            certificate: text(fields.certificate.as_deref()),
            outcome: Outcome::read(&fields),
        })
    }
}

impl Outcome {
    fn read(fields: &AnswerFields) -> Self {
        let invalid = |cause: String| Self::Failed(TaskFailure::new(Answer::INVALID, cause));
        let exception = text(fields.exception.as_deref());
        let status = match fields::string("Status", fields.status.as_deref()) {
            Ok(status) => status,
            Err(error) => return invalid(error.to_string()),
        };

        match (status.as_deref(), fields.result.as_deref()) {
            (Some("ACCEPTED"), _) => Self::Accepted,
            (Some("HEARTBEAT"), _) => Self::Heartbeat,
            (Some("SUCCEEDED"), Some(result)) => Self::Succeeded(result.to_owned()),
            (Some("SUCCEEDED"), None) if fields.result_ref.is_some() => {
                result_ref(fields).map_or_else(invalid, Self::Stored)
            }
            (Some("SUCCEEDED"), None) => invalid("Status is SUCCEEDED, but there is no result".into()),
            (Some("FAILED"), _) => Self::Failed(named_failure(fields, exception, Answer::FAILED)),
            (Some("CANCELLED"), _) => Self::Cancelled(named_failure(fields, exception, Answer::CANCELLED)),
            (Some("UPLOAD"), _) => upload_request(fields).map_or_else(invalid, Self::Upload),
            (Some("DOWNLOAD"), _) => Self::Download,
            (Some(_), _) => invalid(
                "Status must be ACCEPTED, HEARTBEAT, SUCCEEDED, FAILED, CANCELLED, UPLOAD or DOWNLOAD".into(),
            ),
            // The AWS sample's worker sends no Status.
            (None, _) if exception.is_some() => Self::Failed(sample_failure(exception, Answer::FAILED)),
            (None, Some(result)) => Self::Succeeded(result.to_owned()),
            (None, None) => {
                invalid("the message has neither a Status, nor a result, nor an exception".into())
            }
        }
    }
}

/// The result's place in S3.
fn result_ref(fields: &AnswerFields) -> Result<ResultRef, String> {
    let value = fields.result_ref.as_deref().unwrap_or(RawValue::NULL);
    fields::object(value).map_err(|reason| {
        format!("ResultRef must be an object with Bucket, Key, Bytes, Sha256 and ContentType: {reason}")
    })
}

/// The request in `Bytes`, `Sha256` and `ContentType`.
fn upload_request(fields: &AnswerFields) -> Result<UploadRequest, String> {
    const WRONG: &str =
        "Status is UPLOAD, which needs Bytes (a whole number) and Sha256 (64 lower-case hexadecimal digits)";

    let bytes = fields.bytes.as_ref().and_then(|bytes| serde_json::from_str(bytes.get()).ok());
    let sha256 = text(fields.sha256.as_deref()).filter(|sha256| {
        sha256.len() == 64 && sha256.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    });
    let content_type = text(fields.content_type.as_deref()).unwrap_or_else(|| "application/json".into());
    match bytes.zip(sha256) {
        Some((bytes, sha256)) => Ok(UploadRequest { bytes, sha256, content_type }),
        None => Err(WRONG.into()),
    }
}

/// The failure in `Error` and `Cause`; where one is absent, in the sample's `exception`.
fn named_failure(fields: &AnswerFields, exception: Option<String>, default: &str) -> TaskFailure {
    let fallback = sample_failure(exception, default);
    let error = text(fields.error.as_deref()).filter(|error| !error.is_empty());
    let cause = text(fields.cause.as_deref());
    TaskFailure::new(error.unwrap_or(fallback.error), cause.unwrap_or(fallback.cause))
}

/// The failure in the sample's `exception`. Its worker sends the exception's class name, which a `Catch` can match.
/// A text with blanks is a cause for people, and `default` is the error.
fn sample_failure(exception: Option<String>, default: &str) -> TaskFailure {
    let text = exception.unwrap_or_default();

    let is_name =
        !text.is_empty() && text.chars().count() <= ERROR_CHARS && !text.contains(char::is_whitespace);
    let error = if is_name { &text } else { default };
    TaskFailure::new(error, if text.is_empty() { "the worker gave no cause" } else { &text })
}

/// The field's text: a string's content, or any other value as it is written.
fn text(value: Option<&RawValue>) -> Option<String> {
    let value = fields::given(value)?;
    Some(serde_json::from_str(value.get()).unwrap_or_else(|_| value.get().to_owned()))
}

#[cfg(test)]
mod tests;
