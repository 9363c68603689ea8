//! Passes a worker's answer on to Step Functions.

use aws_sdk_sfn::error::{ProvideErrorMetadata, SdkError};
use jiff::Timestamp;
use postern_jobs::{Cancel, Jobs};
use postern_runtime::aws::{Failure, failure, is_closed_task};
use postern_runtime::metrics;
use postern_types::limits::TASK_OUTPUT_BYTES;
use postern_types::{Answer, JobId, Outcome, ResultRef, TaskFailure, TaskToken};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::claim::{Asker, Claims, Commands, Request};
use crate::error::Error;
use crate::record::{News, Record, Sender};

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
    /// The worker that asked was sent a presigned URL, or the reason for which it gets none.
    Replied,
    /// None: the task had ended before.
    Closed,
}

impl Effect {
    /// The effect of an answer that Step Functions accepted.
    fn of(news: &News) -> Self {
        match news {
            News::Accepted | News::Alive => Self::Alive,
            News::Asked => Self::Replied,
            News::Succeeded => Self::Succeeded,
            News::Failed(_) | News::Cancelled(_) => Self::Failed,
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

/// Passes the answer in `event` on to Step Functions, and records what became of the job.
pub(crate) async fn answer(
    tasks: &impl Tasks,
    claims: &Claims<impl Commands>,
    record: Option<&Record<impl Jobs, impl Cancel>>,
    event: &RawValue,
    now: Timestamp,
) -> Result<Delivery, Error> {
    let Answer { token, outcome, tenant, worker, certificate } = Answer::parse(event)?;
    let job_id = token.job_id();
    let status = status(&outcome);
    // `infra/enroll_worker.py --revoke-old` looks for the certificate in this line.
    tracing::info!(%job_id, status, tenant, worker, certificate, "answer received");
    // A message that was invoked directly has no tenant, because only the rule adds one.
    match &tenant {
        Some(tenant) => metrics::count_for(tenant, "Answers"),
        None => metrics::count("Answers"),
    }

    let asker = Asker::new(&job_id, tenant.as_deref(), worker.as_deref());
    let (reply, news) = deliver(tasks, claims, &token, asker, outcome).await?;
    let sender = Sender { job_id: &job_id, tenant: tenant.as_deref(), worker: worker.as_deref() };
    let effect = match reply {
        Reply::Taken => {
            if let Some(record) = record {
                record.taken(&sender, &news, now).await;
            }
            Effect::of(&news)
        }
        Reply::Closed(reason) => {
            metrics::count("AnswersToClosedTasks");
            tracing::info!(%job_id, reason, "the task had ended before");
            if let Some(record) = record {
                record.closed(&sender, &news, now).await;
            }
            Effect::Closed
        }
        Reply::InvalidOutput(reason) => return Err(Error::Refused(reason)),
    };

    tracing::info!(%job_id, ?effect, "answer delivered");
    Ok(Delivery { job_id, effect })
}

/// Makes the calls that an answer asks for.
async fn deliver(
    tasks: &impl Tasks,
    claims: &Claims<impl Commands>,
    token: &TaskToken,
    asker: Option<Asker>,
    outcome: Outcome,
) -> Result<(Reply, News), Error> {
    match outcome {
        Outcome::Accepted => Ok((tasks.heartbeat(token).await?, News::Accepted)),
        Outcome::Heartbeat => Ok((tasks.heartbeat(token).await?, News::Alive)),
        Outcome::Failed(failure) => Ok((tasks.failure(token, &failure).await?, News::Failed(failure))),
        Outcome::Cancelled(failure) => Ok((tasks.failure(token, &failure).await?, News::Cancelled(failure))),
        Outcome::Succeeded(result) => {
            succeed(tasks, token, &format!(r#"{{"result":{}}}"#, result.get())).await
        }
        Outcome::Stored(result) => stored(tasks, claims, token, asker.as_ref(), &result).await,
        Outcome::Upload(upload) => ask(tasks, claims, token, asker, &Request::Upload(upload)).await,
        Outcome::Download => ask(tasks, claims, token, asker, &Request::Download).await,
    }
}

/// The name of an outcome in the log.
fn status(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Accepted => "accepted",
        Outcome::Heartbeat => "heartbeat",
        Outcome::Succeeded(_) => "succeeded",
        Outcome::Stored(_) => "stored",
        Outcome::Failed(_) => "failed",
        Outcome::Cancelled(_) => "cancelled",
        Outcome::Upload(_) => "upload",
        Outcome::Download => "download",
    }
}

/// Sends a worker the URL that it asks for. A heartbeat tells whether the task still waits.
async fn ask(
    tasks: &impl Tasks,
    claims: &Claims<impl Commands>,
    token: &TaskToken,
    asker: Option<Asker>,
    request: &Request,
) -> Result<(Reply, News), Error> {
    let Some(asker) = asker else {
        let cause = "UPLOAD and DOWNLOAD must come from a worker, through the IoT rule";
        let failure = TaskFailure::new(Answer::INVALID, cause);
        return Ok((tasks.failure(token, &failure).await?, News::Failed(failure)));
    };

    let reply = tasks.heartbeat(token).await?;
    claims.reply(&asker, request, reply == Reply::Taken).await?;
    Ok((reply, News::Asked))
}

/// Makes the result's place in S3 the task's output, `{"ResultRef": ...}`.
async fn stored(
    tasks: &impl Tasks,
    claims: &Claims<impl Commands>,
    token: &TaskToken,
    asker: Option<&Asker>,
    result: &ResultRef,
) -> Result<(Reply, News), Error> {
    if let Err(failure) = claims.check(asker, result) {
        return Ok((tasks.failure(token, &failure).await?, News::Failed(failure)));
    }
    succeed(tasks, token, &serde_json::json!({"ResultRef": result}).to_string()).await
}

/// Ends the task with its output: `{"result": ...}` as in the AWS sample, or `{"ResultRef": ...}`. An output that Step Functions refuses
/// fails the task with a name that a `Catch` can match, so that the execution does not wait for its timeout.
async fn succeed(tasks: &impl Tasks, token: &TaskToken, output: &str) -> Result<(Reply, News), Error> {
    let failure = if output.len() > TASK_OUTPUT_BYTES {
        let bytes = output.len();
        TaskFailure::new(
            OUTPUT_TOO_LARGE,
            format!("the output has {bytes} bytes and Step Functions accepts at most {TASK_OUTPUT_BYTES}"),
        )
    } else {
        match tasks.success(token, output).await? {
            Reply::InvalidOutput(reason) => {
                TaskFailure::new(INVALID_OUTPUT, format!("Step Functions refused the output: {reason}"))
            }
            reply => return Ok((reply, News::Succeeded)),
        }
    };

    Ok((tasks.failure(token, &failure).await?, News::Failed(failure)))
}

#[cfg(test)]
mod tests;
