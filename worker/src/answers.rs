//! What the worker publishes about a job: results, failures with the worker's own error names, and reports about
//! messages that are not jobs. Only the text of the messages is made here; delivery sends them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use jiff::Timestamp;
use postern_types::limits::IOT_PAYLOAD_BYTES;
use postern_types::{
    Answer, AnswerMessage, InvalidJob, JobId, JobMessage, ResultRef, TaskFailure, TaskToken,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// What a job came to.
pub(crate) type Outcome = Result<Output, TaskFailure>;

/// The result of a job.
#[derive(Debug, Clone)]
pub(crate) enum Output {
    /// A value, in the message itself.
    Value(Box<RawValue>),
    /// An object in S3.
    Stored(ResultRef),
}

/// Bytes of a report beside the payload that it carries: field names, reason, sizes.
const REPORT_OVERHEAD: usize = 4_096;

/// The message that tells Step Functions the outcome. A result that AWS IoT Core does not carry becomes the
/// failure `Worker.ResultTooLarge`.
pub(crate) fn answer(job: &JobMessage, outcome: &Outcome) -> Bytes {
    let message = match outcome {
        Ok(Output::Stored(result)) => AnswerMessage::stored(job, result),
        Ok(Output::Value(result)) => AnswerMessage::succeeded(job, result).unwrap_or_else(|| {
            AnswerMessage::failed(job, &result_too_large(result.get().len(), IOT_PAYLOAD_BYTES))
        }),
        Err(failure) if is_cancelled(failure) => AnswerMessage::cancelled(job, failure),
        Err(failure) => AnswerMessage::failed(job, failure),
    };
    message.into()
}

/// The message about a payload that is not a job. If the payload names a task, that task fails. If it does not,
/// the message carries the payload and the reason; it names no task either, so that `task-token-done` passes it
/// on to the dead-letter queue.
pub(crate) fn report(invalid: &InvalidJob, payload: &[u8]) -> Bytes {
    let failure = TaskFailure::new("Worker.InvalidJob", &invalid.reason);
    match &invalid.token {
        Some(token) => AnswerMessage::failed_task(token, None, &failure).into(),
        None => Report { reason: &invalid.reason, bytes: payload.len() }.with(payload, IOT_PAYLOAD_BYTES),
    }
}

struct Report<'a> {
    reason: &'a str,
    bytes: usize,
}

impl Report<'_> {
    /// The report with as much of the payload as fits into `most` bytes.
    fn with(&self, payload: &[u8], most: usize) -> Bytes {
        let kept = payload.len().min(most.saturating_sub(REPORT_OVERHEAD) / 4 * 3);
        let message = json!({
            "TaskToken": null,
            "Status": "FAILED",
            "Error": "Worker.InvalidJob",
            "Cause": postern_types::limits::cut(self.reason, 1_000),
            "Bytes": self.bytes,
            "PayloadBase64": BASE64.encode(&payload[..kept]),
        });
        message.to_string().into()
    }
}

/// What the log says of a message in the outbox.
pub(crate) struct Summary {
    /// The job's public name; absent for a report.
    pub(crate) job_id: Option<JobId>,
    /// `succeeded` or `failed`.
    pub(crate) status: String,
}

/// Reads back what a message in the outbox is about.
pub(crate) fn summary(message: &[u8]) -> Summary {
    let sent: Sent = serde_json::from_slice(message).unwrap_or_default();
    let job_id = sent.task_token.map(|token| token.job_id());
    Summary { job_id, status: sent.status.to_lowercase() }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Sent {
    task_token: Option<TaskToken>,
    #[serde(default)]
    status: String,
    job_id: Option<Value>,
    #[serde(default)]
    cause: String,
    #[serde(default)]
    bytes: usize,
    payload_base64: Option<String>,
}

/// A message that says the same in at most `most` bytes: a report with less of its payload, or the failure
/// `Worker.ResultTooLarge` in the place of a result. `None` if even that does not fit.
pub(crate) fn shorten(message: &[u8], most: usize) -> Option<Bytes> {
    let sent: Sent = serde_json::from_slice(message).ok()?;
    let shorter = match sent {
        Sent { payload_base64: Some(payload), cause, bytes, .. } => {
            let payload = BASE64.decode(payload).ok()?;
            Report { reason: &cause, bytes }.with(&payload, most)
        }
        Sent { task_token: Some(token), job_id, .. } => {
            let job_id = job_id.map(|_| token.job_id());
            let failure = result_too_large(message.len(), most);
            AnswerMessage::failed_task(&token, job_id.as_ref(), &failure).into()
        }
        _ => return None,
    };
    (shorter.len() <= most).then_some(shorter)
}

pub(crate) fn result_too_large(bytes: usize, most: usize) -> TaskFailure {
    let cause = format!("the result has {bytes} bytes; the message around it may have {most}");
    TaskFailure::new("Worker.ResultTooLarge", cause)
}

/// Whether the failure says that the job was cancelled.
pub(crate) fn is_cancelled(failure: &TaskFailure) -> bool {
    failure.error() == Answer::CANCELLED
}

pub(crate) fn cancelled(reason: &str) -> TaskFailure {
    TaskFailure::new(Answer::CANCELLED, if reason.is_empty() { "the job was cancelled" } else { reason })
}

/// The failure of an attempt that shared the run of a cancelled one.
pub(crate) fn cancelled_with_another() -> TaskFailure {
    let cause =
        "the run that this attempt shared with an earlier one was cancelled with it; a retry runs again";
    TaskFailure::new("Worker.Interrupted", cause)
}

pub(crate) fn shutting_down(when: &str) -> TaskFailure {
    TaskFailure::new("Worker.ShuttingDown", format!("the worker stopped {when}"))
}

pub(crate) fn interrupted(kind: &str) -> TaskFailure {
    let cause = format!(
        "the worker ended while the handler of {kind:?} ran; the handler's policy does not allow a second run"
    );
    TaskFailure::new("Worker.Interrupted", cause)
}

pub(crate) fn deadline_exceeded(job: &JobMessage) -> TaskFailure {
    let deadline = job.deadline.unwrap_or_default();
    let cause = format!("the job's deadline was {deadline}; the worker's clock says {:.0}", Timestamp::now());
    TaskFailure::new("Worker.DeadlineExceeded", cause)
}

pub(crate) fn input_unavailable(why: &str) -> TaskFailure {
    TaskFailure::new("Worker.InputUnavailable", format!("the job's input cannot be read: {why}"))
}

pub(crate) fn panicked(kind: &str) -> TaskFailure {
    TaskFailure::new("Worker.HandlerPanicked", format!("the handler of {kind:?} panicked"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(message: &[u8]) -> Value {
        serde_json::from_slice(message).unwrap()
    }

    fn not_a_job(payload: &[u8]) -> Bytes {
        report(&JobMessage::parse(payload).unwrap_err(), payload)
    }

    #[test]
    fn a_report_carries_the_payload_and_its_size() {
        let report = value(&not_a_job(b"not json"));
        assert_eq!(report["TaskToken"], Value::Null);
        assert_eq!((&report["Bytes"], &report["PayloadBase64"]), (&json!(8), &json!("bm90IGpzb24=")));
        assert!(report["Cause"].as_str().unwrap().contains("not JSON"));
    }

    #[test]
    fn a_report_keeps_as_much_of_a_large_payload_as_fits() {
        let report = not_a_job(&vec![b'x'; IOT_PAYLOAD_BYTES]);
        assert!(report.len() <= IOT_PAYLOAD_BYTES);
        let kept = value(&report)["PayloadBase64"].as_str().unwrap().len();
        assert_eq!(kept, IOT_PAYLOAD_BYTES - REPORT_OVERHEAD);

        let shorter = shorten(&report, 8_192).unwrap();
        assert!(shorter.len() <= 8_192);
        assert_eq!(value(&shorter)["Bytes"], IOT_PAYLOAD_BYTES, "the size of the whole payload");
        assert_eq!(value(&shorter)["PayloadBase64"].as_str().unwrap().len(), 4_096);
        assert!(shorten(&shorter, 1_024).unwrap().len() <= 1_024);
    }

    #[test]
    fn a_result_that_is_too_large_becomes_a_failure_of_the_same_task() {
        let job = JobMessage::parse(br#"{"TaskToken":"abc","JobId":"x","Input":1}"#).unwrap();
        let result = RawValue::from_string(format!("\"{}\"", "x".repeat(9_000))).unwrap();
        let message = answer(&job, &Ok(Output::Value(result)));
        let shorter = value(&shorten(&message, 4_096).unwrap());
        assert_eq!(
            (&shorter["TaskToken"], &shorter["Error"]),
            (&json!("abc"), &json!("Worker.ResultTooLarge"))
        );
        assert_eq!(shorter["JobId"], job.id().as_str());
    }

    #[test]
    fn a_message_that_cannot_be_short_enough_is_not_shortened() {
        let job = JobMessage::parse(br#"{"TaskToken":"abc","Input":1}"#).unwrap();
        let message = answer(&job, &Ok(Output::Value(RawValue::from_string("57".into()).unwrap())));
        assert_eq!(shorten(&message, 10), None);
        assert_eq!(shorten(b"not json", 10), None);
    }
}
