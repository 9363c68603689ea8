//! A job's input and result, from the history of its execution.
//!
//! The table has neither: an item of DynamoDB has at most 400 KB. The history has both, word for word. A job is found in
//! it by its task token, of which the job's id is the digest.

use postern_types::TaskToken;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::problem::Problem;
use crate::services::{HistoryEvent, HistoryKind, StepFunctions};

/// The most pages of a history that are read: within the 29 seconds that API Gateway waits.
const HISTORY_PAGES: usize = 60;

/// The largest input or result that is returned, in bytes. The response of a function has at most 6 MB.
const PAYLOAD_BYTES: usize = 1024 * 1024;

/// Which payload of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Payload {
    /// What the job was given.
    Input,
    /// What the task's output was.
    Result,
}

/// The parameters of a task that waits for a token.
#[derive(Deserialize)]
struct Parameters {
    #[serde(rename = "Payload")]
    payload: TaskPayload,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TaskPayload {
    task_token: TaskToken,
    input: Option<Box<RawValue>>,
    question: Option<Box<RawValue>>,
}

/// Reads a payload of a job from the history of `execution`.
pub(crate) async fn payload(
    step_functions: &impl StepFunctions,
    execution: &str,
    job_id: &str,
    which: Payload,
) -> Result<Box<RawValue>, Problem> {
    let mut search = Search { job_id, which, last: None };

    let mut next = None;
    for _ in 0..HISTORY_PAGES {
        let page = step_functions.history(execution, next).await?;
        let (events, token) =
            page.ok_or(Problem::NotFound("the execution is no longer in Step Functions"))?;

        for event in &events {
            if let Some(found) = search.read(event) {
                return checked(found?);
            }
        }

        next = token;
        if next.is_none() {
            return Err(search.missing());
        }
    }

    Err(Problem::TooLarge("the execution's history is too long to search; see it in Step Functions".into()))
}

fn checked(payload: Box<RawValue>) -> Result<Box<RawValue>, Problem> {
    match payload.get().len() {
        bytes if bytes > PAYLOAD_BYTES => Err(Problem::TooLarge(format!(
            "it has {bytes} bytes, and at most {PAYLOAD_BYTES} are returned; see it in Step Functions"
        ))),
        _ => Ok(payload),
    }
}

/// A search in a history, event by event. `last` is the last event of the job's task: events of one task follow one another
/// by `previousEventId`, also where those of other branches stand between them.
struct Search<'a> {
    job_id: &'a str,
    which: Payload,
    last: Option<i64>,
}

impl Search<'_> {
    /// Reads an event. Returns the payload, or the reason why it cannot be shown, as soon as either is known.
    fn read(&mut self, event: &HistoryEvent) -> Option<Result<Box<RawValue>, Problem>> {
        if let HistoryKind::Scheduled(parameters) = &event.kind {
            let task = serde_json::from_str::<Parameters>(parameters).ok()?.payload;
            if task.task_token.job_id().as_str() == self.job_id {
                self.last = Some(event.id);
                if self.which == Payload::Input {
                    // An approval's input is its question.
                    return task.input.or(task.question).map(Ok);
                }
            }
            return None;
        }

        if self.last != Some(event.previous) {
            return None;
        }
        self.last = Some(event.id);

        match &event.kind {
            HistoryKind::Succeeded(output) => {
                let output = RawValue::from_string(output.clone());
                Some(output.map_err(|_| Problem::NotFound("the task's output is not JSON")))
            }
            HistoryKind::Failed => Some(Err(Problem::NotFound("the job failed, and has no result"))),
            HistoryKind::Scheduled(_) | HistoryKind::Other => None,
        }
    }

    fn missing(&self) -> Problem {
        match self.last {
            Some(_) => Problem::NotFound("the job has no result yet"),
            None => Problem::NotFound("the execution's history does not contain the job"),
        }
    }
}
