//! What a person does with jobs: start, stop, approve and reject.

use jiff::Timestamp;
use postern_approval::{InvalidLink, Keyring, REJECTED};
use postern_jobs::{End, JobItem, Jobs, Rank, State};
use postern_runtime::secrets::ReadSecret;
use postern_types::{JobId, Tenant};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use crate::config::Config;
use crate::problem::Problem;
use crate::services::{Broker, Decided, Started, StepFunctions};

/// The largest input of an execution, in bytes.
const INPUT_BYTES: usize = 262_144;

/// The longest reason or comment, in characters.
const TEXT_CHARS: usize = 1_000;

/// The longest idempotency key, in characters.
const KEY_CHARS: usize = 256;

/// How long a cancellation waits for a worker that is not connected, in seconds, if the job has no deadline.
const CANCEL_SECONDS: i64 = 86_400;

/// The body of `POST /jobs`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Start {
    machine: String,
    input: Box<RawValue>,
}

/// The body of `POST /jobs/{jobId}/stop`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stop {
    #[serde(default)]
    reason: Option<String>,
}

/// The body of `POST /jobs/{jobId}/approve` and `/reject`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Comment {
    #[serde(default)]
    comment: Option<String>,
}

/// An execution that was started.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct StartedExecution {
    execution: String,
    name: String,
}

/// Starts a state machine. With a key, a repeated request returns the execution that the first one started.
pub(crate) async fn start(
    step_functions: &impl StepFunctions,
    config: &Config,
    tenant: &Tenant,
    key: Option<&str>,
    Start { machine, input }: Start,
) -> Result<StartedExecution, Problem> {
    let machine = config
        .machine(tenant, &machine)
        .ok_or(Problem::NotFound("there is no machine of this name to start"))?;

    let input = input.get();
    if input.len() > INPUT_BYTES {
        let bytes = input.len();
        return Err(Problem::TooLarge(format!(
            "input has {bytes} bytes; Step Functions takes {INPUT_BYTES}"
        )));
    }

    let name = execution_name(tenant, key)?;
    let execution = format!("{}:{name}", machine.arn.replacen(":stateMachine:", ":execution:", 1));

    if step_functions.start(&machine.arn, &name, input).await? == Started::Exists {
        let before = step_functions.input_of(&execution).await?;
        if before.as_deref() != Some(input) {
            return Err(Problem::Conflict("the Idempotency-Key was used with another input".into()));
        }
    }

    tracing::info!(%tenant, execution, "execution started");
    Ok(StartedExecution { execution, name })
}

/// The name of an execution: the digest of tenant and key, so that tenants cannot meet in one key. Without a key it is
/// random.
fn execution_name(tenant: &Tenant, key: Option<&str>) -> Result<String, Problem> {
    let mut bytes = [0; 16];
    match key {
        Some(key) if (1..=KEY_CHARS).contains(&key.len()) => {
            bytes.copy_from_slice(&digest(&SHA256, format!("{tenant}/{key}").as_bytes()).as_ref()[..16]);
        }
        Some(key) => {
            let chars = key.len();
            let problem = format!("Idempotency-Key has {chars} characters; it must have 1 to {KEY_CHARS}");
            return Err(Problem::InvalidRequest(problem));
        }
        None => {
            let filled = SystemRandom::new().fill(&mut bytes);
            filled.map_err(|_| Problem::Unavailable { service: "the random number generator" })?;
        }
    }

    Ok(format!("api-{:032x}", u128::from_be_bytes(bytes)))
}

/// Stops the execution of a job, and tells the worker at once. A repeated request changes nothing.
pub(crate) async fn stop(
    step_functions: &impl StepFunctions,
    broker: &impl Broker,
    job: &JobItem,
    Stop { reason }: Stop,
    now: Timestamp,
) -> Result<(), Problem> {
    let reason = text("reason", reason)?.unwrap_or_else(|| "stopped by an operator".into());
    match job.state {
        State::Dispatched | State::Accepted => {}
        State::Cancelled => return Ok(()),
        ended => return Err(Problem::Conflict(format!("the job has ended: {ended}"))),
    }

    if let Some(execution) = &job.execution {
        step_functions.stop(execution, &reason).await?;
    }

    let message = json!({"JobId": job.job_id, "Reason": reason}).to_string();
    let published =
        broker.publish(&format!("{}/to/worker/cancel", job.tenant), &message, remaining(job, now)).await;

    // Once the execution is stopped, the canceller tells the worker as well.
    if job.execution.is_none() {
        published?;
    }

    tracing::info!(job_id = job.job_id, "job stopped");
    Ok(())
}

/// The seconds until a job's deadline, and at most a day.
fn remaining(job: &JobItem, now: Timestamp) -> i64 {
    let deadline = job.deadline.as_deref().and_then(|deadline| deadline.parse::<Timestamp>().ok());
    deadline
        .map_or(CANCEL_SECONDS, |deadline| deadline.duration_since(now).as_secs())
        .clamp(1, CANCEL_SECONDS)
}

/// A decision about a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Approve,
    Reject,
}

/// Answers the task of an approval, as its link would. A repeated decision changes nothing; the opposite one is a conflict.
pub(crate) async fn decide(
    step_functions: &impl StepFunctions,
    jobs: &impl Jobs,
    keys: Option<&Keyring<impl ReadSecret>>,
    job: &JobItem,
    verdict: Verdict,
    Comment { comment }: Comment,
    now: Timestamp,
) -> Result<(), Problem> {
    let comment = text("comment", comment)?;
    let (Some(link), Some(keys)) = (&job.approval, keys) else {
        return Err(Problem::Conflict("the job does not wait for a person".into()));
    };
    if !job.state.is_open() {
        return decided_before(job, verdict);
    }

    let (_, ask) = keys.read(link, now).await.map_err(|error| match error {
        InvalidLink::Expired => Problem::Conflict("the time to decide has passed".into()),
        InvalidLink::Forged => {
            Problem::Conflict("the key of the approval has been replaced; use its link".into())
        }
    })?;

    let (end, taken) = match verdict {
        Verdict::Approve => {
            let mut output = json!({"decision": "APPROVED"});
            if let Some(comment) = comment {
                output["comment"] = json!(comment);
            }
            let taken = step_functions.succeed(&ask.token, &output.to_string()).await?;
            (End::new(State::Succeeded, Rank::Answered), taken)
        }
        Verdict::Reject => {
            let cause = comment.unwrap_or_else(|| "a person rejected it in the console".into());
            let taken = step_functions.fail(&ask.token, REJECTED, &cause).await?;
            (End::new(State::Failed, Rank::Answered).because(REJECTED, cause), taken)
        }
    };

    if taken == Decided::Closed {
        return Err(Problem::Conflict("the decision was made before, or its time has passed".into()));
    }

    tracing::info!(job_id = job.job_id, ?verdict, "decision delivered");
    record(jobs, job, &end, now).await;
    Ok(())
}

fn decided_before(job: &JobItem, verdict: Verdict) -> Result<(), Problem> {
    let same = match verdict {
        Verdict::Approve => job.state == State::Succeeded,
        Verdict::Reject => job.error.as_deref() == Some(REJECTED),
    };
    if same { Ok(()) } else { Err(Problem::Conflict(format!("the decision was made before: {}", job.state))) }
}

/// Writes the end of an approval. Step Functions has the decision already, so a failure of the table is only logged.
async fn record(jobs: &impl Jobs, job: &JobItem, end: &End, now: Timestamp) {
    let (Ok(tenant), Ok(job_id)) = (Tenant::parse(&job.tenant), JobId::parse(&*job.job_id)) else { return };

    if let Err(error) = jobs.ended(&tenant, &job_id, end, now).await {
        postern_runtime::metrics::count("JobTableErrors");
        tracing::warn!(%job_id, "the decision is not in the table: {error}");
    }
}

/// A text that a person wrote, without the blanks around it; `None` if nothing is left.
fn text(name: &str, text: Option<String>) -> Result<Option<String>, Problem> {
    let text = text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());

    match text.as_ref().map_or(0, |text| text.chars().count()) {
        chars if chars > TEXT_CHARS => Err(Problem::InvalidRequest(format!(
            "{name} has {chars} characters; at most {TEXT_CHARS} are allowed"
        ))),
        _ => Ok(text),
    }
}
