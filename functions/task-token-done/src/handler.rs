//! Passes a worker's answer on to Step Functions.

use aws_sdk_sfn::error::{ProvideErrorMetadata, SdkError};
use postern_runtime::aws::{Failure, failure, is_closed_task};
use postern_runtime::{NamedError, metrics};
use postern_types::limits::TASK_OUTPUT_BYTES;
use postern_types::{Answer, InvalidAnswer, JobId, Outcome, TaskFailure, TaskToken};
use serde::Serialize;
use serde_json::value::RawValue;

/// The function's answer. An IoT rule invokes the function asynchronously and ignores it; a person who invokes the
/// function by hand sees it.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Delivery {
    /// The job's id.
    job_id: JobId,
    /// What became of the task.
    #[serde(rename = "Outcome")]
    effect: Effect,
}

/// What an answer did to its task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Effect {
    /// The task succeeded.
    Succeeded,
    /// The task failed.
    Failed,
    /// The task's heartbeat timer started again.
    Alive,
    /// None: the task had ended before.
    Closed,
}

/// The reasons for which an answer is not delivered. Lambda retries the event and then sends it to the function's
/// on-failure destination, so that no answer is lost.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    InvalidMessage(#[from] InvalidAnswer),
    #[error("Step Functions throttled the call: {0}")]
    Throttled(String),
    #[error("Step Functions cannot be reached: {0}")]
    Unavailable(String),
    #[error("the function's role, or the policy of the KMS key, does not allow the call: {0}")]
    AccessDenied(String),
    #[error("Step Functions refused the answer: {0}")]
    Refused(String),
}

impl NamedError for Error {
    fn name(&self) -> &'static str {
        match self {
            Self::InvalidMessage(_) => "TaskTokenDone.InvalidMessage",
            Self::Throttled(_) => "TaskTokenDone.Throttled",
            Self::Unavailable(_) => "TaskTokenDone.Unavailable",
            Self::AccessDenied(_) => "TaskTokenDone.AccessDenied",
            Self::Refused(_) => "TaskTokenDone.Refused",
        }
    }
}

/// The error of a task whose result exceeds the output limit of Step Functions.
const OUTPUT_TOO_LARGE: &str = "TaskTokenDone.OutputTooLarge";
/// The error of a task whose result Step Functions refuses.
const INVALID_OUTPUT: &str = "TaskTokenDone.InvalidOutput";

/// The reply of Step Functions to an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Step Functions accepted the answer.
    Taken,
    /// The task has ended, timed out or never existed. The text is the error code, for the log.
    Closed(String),
    /// Step Functions refused the output. The text is its reason.
    InvalidOutput(String),
}

/// The calls of Step Functions that the handler makes.
pub(crate) trait Tasks {
    async fn success(&self, token: &TaskToken, output: &str) -> Result<Reply, Error>;
    async fn failure(&self, token: &TaskToken, failure: &TaskFailure) -> Result<Reply, Error>;
    async fn heartbeat(&self, token: &TaskToken) -> Result<Reply, Error>;
}

impl Tasks for aws_sdk_sfn::Client {
    async fn success(&self, token: &TaskToken, output: &str) -> Result<Reply, Error> {
        reply(self.send_task_success().task_token(token.expose()).output(output).send().await)
    }

    async fn failure(&self, token: &TaskToken, failure: &TaskFailure) -> Result<Reply, Error> {
        let call = self.send_task_failure().task_token(token.expose());
        reply(call.error(failure.error()).cause(failure.cause()).send().await)
    }

    async fn heartbeat(&self, token: &TaskToken) -> Result<Reply, Error> {
        reply(self.send_task_heartbeat().task_token(token.expose()).send().await)
    }
}

fn reply<T, E>(answer: Result<T, SdkError<E>>) -> Result<Reply, Error>
where
    E: ProvideErrorMetadata,
{
    let Err(error) = answer else { return Ok(Reply::Taken) };
    let (kind, reason) = failure(&error);

    match error.code() {
        code if is_closed_task(code) => Ok(Reply::Closed(reason)),
        // The lengths of the token and of the failure were checked, so a validation error concerns the output.
        Some("InvalidOutput" | "ValidationException") => Ok(Reply::InvalidOutput(reason)),
        _ => match kind {
            Failure::TooLarge => Ok(Reply::InvalidOutput(reason)),
            Failure::Throttled => Err(Error::Throttled(reason)),
            Failure::Unavailable => Err(Error::Unavailable(reason)),
            Failure::Denied => Err(Error::AccessDenied(reason)),
            Failure::Refused => Err(Error::Refused(reason)),
        },
    }
}

/// Passes the answer in `event` on to Step Functions.
pub(crate) async fn answer(tasks: &impl Tasks, event: &RawValue) -> Result<Delivery, Error> {
    let Answer { token, outcome, tenant, worker, certificate } = Answer::parse(event)?;
    let job_id = token.job_id();
    let status = match &outcome {
        Outcome::Accepted => "accepted",
        Outcome::Heartbeat => "heartbeat",
        Outcome::Succeeded(_) => "succeeded",
        Outcome::Failed(_) => "failed",
        Outcome::Cancelled(_) => "cancelled",
        Outcome::Upload(_) => "upload",
        Outcome::Download => "download",
    };
    // `infra/enroll_worker.py --revoke-old` looks for the certificate in this line.
    tracing::info!(%job_id, status, tenant, worker, certificate, "answer received");
    // A message that was invoked directly has no tenant, because only the rule adds one.
    match &tenant {
        Some(tenant) => metrics::count_for(tenant, "Answers"),
        None => metrics::count("Answers"),
    }

    let (reply, effect) = match outcome {
        Outcome::Accepted | Outcome::Heartbeat => (tasks.heartbeat(&token).await?, Effect::Alive),
        Outcome::Failed(failure) | Outcome::Cancelled(failure) => {
            (tasks.failure(&token, &failure).await?, Effect::Failed)
        }
        Outcome::Upload(_) | Outcome::Download => {
            let failure = TaskFailure::new(Answer::INVALID, "this stack has no claim check");
            (tasks.failure(&token, &failure).await?, Effect::Failed)
        }
        Outcome::Succeeded(result) => succeed(tasks, &token, &result).await?,
    };
    let effect = match reply {
        Reply::Taken => effect,
        Reply::Closed(reason) => {
            metrics::count("AnswersToClosedTasks");
            tracing::info!(%job_id, reason, "the task had ended before");
            Effect::Closed
        }
        Reply::InvalidOutput(reason) => return Err(Error::Refused(reason)),
    };

    tracing::info!(%job_id, ?effect, "answer delivered");
    Ok(Delivery { job_id, effect })
}

/// Makes the result the task's output, `{"result": ...}` as in the AWS sample. A result that Step Functions refuses
/// fails the task with a name that a `Catch` can match, so that the execution does not wait for its timeout.
async fn succeed(tasks: &impl Tasks, token: &TaskToken, result: &RawValue) -> Result<(Reply, Effect), Error> {
    let output = format!(r#"{{"result":{}}}"#, result.get());
    let failure = if output.len() > TASK_OUTPUT_BYTES {
        let bytes = output.len();
        TaskFailure::new(
            OUTPUT_TOO_LARGE,
            format!("the output has {bytes} bytes and Step Functions accepts at most {TASK_OUTPUT_BYTES}"),
        )
    } else {
        match tasks.success(token, &output).await? {
            Reply::InvalidOutput(reason) => {
                TaskFailure::new(INVALID_OUTPUT, format!("Step Functions refused the output: {reason}"))
            }
            reply => return Ok((reply, Effect::Succeeded)),
        }
    };

    Ok((tasks.failure(token, &failure).await?, Effect::Failed))
}

#[cfg(test)]
mod tests;
