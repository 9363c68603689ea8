use aws_sdk_sfn::error::{ProvideErrorMetadata, SdkError};
use postern_runtime::aws::{Failure, failure};
use postern_runtime::{NamedError, metrics};
use postern_types::limits::TASK_OUTPUT_BYTES;
use postern_types::{Answer, InvalidAnswer, JobId, Outcome, TaskFailure, TaskToken};
use serde::Serialize;
use serde_json::value::RawValue;

/// What was done with a worker's message. Nobody waits for it (IoT rules invoke asynchronously); it is for
/// people who invoke the function by hand.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Done {
    /// The job's public name.
    job_id: JobId,
    /// `SUCCEEDED`, `FAILED` or `ALIVE`; `CLOSED` when the task had ended before.
    outcome: Action,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Action {
    Succeeded,
    Failed,
    Alive,
    Closed,
}

/// Everything that can go wrong. Each is raised, so that Lambda retries it and then sends it to the
/// function's on-failure destination: nothing is lost.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    InvalidMessage(#[from] InvalidAnswer),
    #[error("Step Functions asks for fewer calls: {0}")]
    Throttled(String),
    #[error("Step Functions cannot be reached: {0}")]
    Unavailable(String),
    #[error("the function's role or its key does not allow it: {0}")]
    AccessDenied(String),
    #[error("Step Functions did not take the answer: {0}")]
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

/// The task's error when its result is more than Step Functions takes.
const OUTPUT_TOO_LARGE: &str = "TaskTokenDone.OutputTooLarge";
/// The task's error when Step Functions does not take its result for JSON it can use.
const INVALID_OUTPUT: &str = "TaskTokenDone.InvalidOutput";

/// How Step Functions took an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// It did.
    Taken,
    /// The task has ended, timed out or never was: nothing will change that. The code, for the log.
    Closed(String),
    /// The output is not what Step Functions takes. Its words.
    InvalidOutput(String),
}

/// What the handler needs of Step Functions.
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
        reply(call.error(&failure.error).cause(&failure.cause).send().await)
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
        Some("TaskTimedOut" | "TaskDoesNotExist" | "InvalidToken") => Ok(Reply::Closed(reason)),
        // The token's length and the failure's were checked: what a validation error is left for is the output.
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

/// Tells Step Functions what the worker's message means for its task.
pub(crate) async fn answer(tasks: &impl Tasks, event: &RawValue) -> Result<Done, Error> {
    let Answer { token, outcome, tenant, worker } = Answer::parse(event)?;
    let job_id = token.job_id();
    let said = match &outcome {
        Outcome::Accepted => "accepted",
        Outcome::Heartbeat => "heartbeat",
        Outcome::Succeeded(_) => "succeeded",
        Outcome::Failed(_) => "failed",
    };
    tracing::info!(%job_id, said, tenant, worker, "answer received");
    let (reply, action) = match outcome {
        Outcome::Accepted | Outcome::Heartbeat => (tasks.heartbeat(&token).await?, Action::Alive),
        Outcome::Failed(failure) => (tasks.failure(&token, &failure).await?, Action::Failed),
        Outcome::Succeeded(result) => succeed(tasks, &token, &result).await?,
    };
    let outcome = match reply {
        Reply::Taken => action,
        Reply::Closed(reason) => {
            metrics::count("AnswersToClosedTasks");
            tracing::info!(%job_id, reason, "the task had ended before");
            Action::Closed
        }
        Reply::InvalidOutput(reason) => return Err(Error::Refused(reason)),
    };
    tracing::info!(%job_id, ?outcome, "answer delivered");
    Ok(Done { job_id, outcome })
}

/// A result becomes the task's output, `{"result": ...}` as in the AWS sample. One that Step Functions cannot
/// take becomes the task's failure: the execution goes on at once, and its `Catch` can tell.
async fn succeed(tasks: &impl Tasks, token: &TaskToken, result: &RawValue) -> Result<(Reply, Action), Error> {
    let output = format!(r#"{{"result":{}}}"#, result.get());
    let failure = if output.len() > TASK_OUTPUT_BYTES {
        let bytes = output.len();
        TaskFailure::new(
            OUTPUT_TOO_LARGE,
            format!("the output has {bytes} bytes and Step Functions takes at most {TASK_OUTPUT_BYTES}"),
        )
    } else {
        match tasks.success(token, &output).await? {
            Reply::InvalidOutput(reason) => {
                TaskFailure::new(INVALID_OUTPUT, format!("Step Functions refused the output: {reason}"))
            }
            reply => return Ok((reply, Action::Succeeded)),
        }
    };
    Ok((tasks.failure(token, &failure).await?, Action::Failed))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use postern_testing::{StubServer, config_for};

    use super::*;

    const RESULT: &str = r#"{"TaskToken":"abc","result":1}"#;

    /// What comes of a result when the real client gets this from Step Functions.
    async fn when_told(status: u16, code: &'static str) -> (Result<Action, &'static str>, usize) {
        let stub = StubServer::answering(status, code);
        let config = config_for(&stub.url(), "us-east-1", ("test", "test")).await;
        let event = RawValue::from_string(RESULT.to_owned()).unwrap();
        let done = answer(&aws_sdk_sfn::Client::new(&config), &event).await;
        let calls = stub.requests().len();
        (done.map(|done| done.outcome).map_err(|error| error.name()), calls)
    }

    #[tokio::test]
    async fn every_answer_of_step_functions_has_its_consequence() {
        assert_eq!(when_told(200, "").await, (Ok(Action::Succeeded), 1));
        for code in ["TaskTimedOut", "TaskDoesNotExist", "InvalidToken"] {
            assert_eq!(when_told(400, code).await, (Ok(Action::Closed), 1), "{code}");
        }
        for (status, code, name, attempts) in [
            (400, "ThrottlingException", "TaskTokenDone.Throttled", 3),
            (503, "ServiceUnavailable", "TaskTokenDone.Unavailable", 3),
            (500, "InternalError", "TaskTokenDone.Unavailable", 3),
            (400, "AccessDeniedException", "TaskTokenDone.AccessDenied", 1),
            (400, "KmsAccessDeniedException", "TaskTokenDone.AccessDenied", 1),
            (400, "KmsInvalidStateException", "TaskTokenDone.Refused", 1),
        ] {
            assert_eq!(when_told(status, code).await, (Err(name), attempts), "{code}");
        }
        // The failure that is sent in the place of the result meets the same stub, which refuses that too.
        for (status, code) in
            [(400, "InvalidOutput"), (400, "ValidationException"), (413, "RequestEntityTooLarge")]
        {
            assert_eq!(when_told(status, code).await, (Err("TaskTokenDone.Refused"), 2), "{code}");
        }
    }

    /// Notes the calls and answers each with the next reply; with `Taken` when there is none left.
    #[derive(Default)]
    struct StepFunctions {
        calls: RefCell<Vec<String>>,
        replies: RefCell<Vec<Result<Reply, Error>>>,
    }

    impl StepFunctions {
        fn replying(replies: impl IntoIterator<Item = Result<Reply, Error>>) -> Self {
            Self { replies: RefCell::new(replies.into_iter().collect()), ..Self::default() }
        }

        fn note(&self, call: String) -> Result<Reply, Error> {
            self.calls.borrow_mut().push(call);
            let mut replies = self.replies.borrow_mut();
            if replies.is_empty() { Ok(Reply::Taken) } else { replies.remove(0) }
        }
    }

    impl Tasks for StepFunctions {
        async fn success(&self, token: &TaskToken, output: &str) -> Result<Reply, Error> {
            self.note(format!("success {} {output}", token.expose()))
        }

        async fn failure(&self, token: &TaskToken, failure: &TaskFailure) -> Result<Reply, Error> {
            self.note(format!("failure {} {} | {}", token.expose(), failure.error, failure.cause))
        }

        async fn heartbeat(&self, token: &TaskToken) -> Result<Reply, Error> {
            self.note(format!("heartbeat {}", token.expose()))
        }
    }

    async fn answer_json(tasks: &StepFunctions, event: &str) -> Result<Action, Error> {
        let event = RawValue::from_string(event.to_owned()).unwrap();
        answer(tasks, &event).await.map(|done| done.outcome)
    }

    /// What one event makes Step Functions be told, when it takes everything.
    async fn told(event: &str) -> Vec<String> {
        let tasks = StepFunctions::default();
        answer_json(&tasks, event).await.unwrap();
        tasks.calls.into_inner()
    }

    #[tokio::test]
    async fn the_samples_messages() {
        assert_eq!(told(r#"{"result":57,"TaskToken":"abc"}"#).await, [r#"success abc {"result":57}"#]);
        assert_eq!(
            told(r#"{"result":null,"TaskToken":"abc","exception":"KeyError"}"#).await,
            ["failure abc KeyError | KeyError"]
        );
    }

    #[tokio::test]
    async fn our_own_messages() {
        assert_eq!(told(r#"{"TaskToken":"abc","Status":"ACCEPTED"}"#).await, ["heartbeat abc"]);
        assert_eq!(told(r#"{"TaskToken":"abc","Status":"HEARTBEAT"}"#).await, ["heartbeat abc"]);
        assert_eq!(
            told(
                r#"{"TaskToken":"abc","Status":"SUCCEEDED","result":{"b":1.50,"a":12345678901234567890123}}"#
            )
            .await,
            [r#"success abc {"result":{"b":1.50,"a":12345678901234567890123}}"#]
        );
        assert_eq!(
            told(r#"{"TaskToken":"abc","Status":"FAILED","Error":"Db.Locked","Cause":"row 7"}"#).await,
            ["failure abc Db.Locked | row 7"]
        );
        assert_eq!(
            told(r#"{"TaskToken":"abc","Status":"CANCELLED","Cause":"asked to"}"#).await,
            ["failure abc Worker.Cancelled | asked to"]
        );
    }

    #[tokio::test]
    async fn the_rules_stamps_stay_out_of_the_output() {
        let stamped = r#"{"result":{"x":1},"TaskToken":"abc","tenant":"t","worker":"w","certificate":"c","receivedAt":1}"#;
        assert_eq!(told(stamped).await, [r#"success abc {"result":{"x":1}}"#]);
    }

    #[tokio::test]
    async fn a_poison_message_is_raised_and_tells_step_functions_nothing() {
        for event in ["7", "[]", "{}", r#"{"result":1,"TaskToken":null}"#, r#"{"result":1,"TaskToken":""}"#] {
            let tasks = StepFunctions::default();
            let error = answer_json(&tasks, event).await.unwrap_err();
            assert_eq!(error.name(), "TaskTokenDone.InvalidMessage", "{event}");
            assert!(tasks.calls.borrow().is_empty());
        }
    }

    #[tokio::test]
    async fn a_closed_task_is_final_and_no_error() {
        for event in [
            r#"{"TaskToken":"abc","result":1}"#,
            r#"{"TaskToken":"abc","exception":"E"}"#,
            r#"{"TaskToken":"abc","Status":"HEARTBEAT"}"#,
        ] {
            let tasks = StepFunctions::replying([Ok(Reply::Closed("TaskTimedOut".into()))]);
            assert_eq!(answer_json(&tasks, event).await.unwrap(), Action::Closed, "{event}");
            assert_eq!(tasks.calls.borrow().len(), 1);
        }
    }

    #[tokio::test]
    async fn a_throttled_result_stays_a_result() {
        let tasks = StepFunctions::replying([Err(Error::Throttled("slow down".into()))]);
        let error = answer_json(&tasks, r#"{"TaskToken":"abc","result":1}"#).await.unwrap_err();
        assert_eq!(error.name(), "TaskTokenDone.Throttled");
        assert_eq!(tasks.calls.into_inner(), [r#"success abc {"result":1}"#], "no failure is reported");
    }

    #[tokio::test]
    async fn a_result_that_step_functions_cannot_take_fails_the_task() {
        let tasks = StepFunctions::replying([Ok(Reply::InvalidOutput("InvalidOutput".into()))]);
        assert_eq!(answer_json(&tasks, r#"{"TaskToken":"abc","result":1}"#).await.unwrap(), Action::Failed);
        assert!(tasks.calls.borrow()[1].starts_with("failure abc TaskTokenDone.InvalidOutput | "));

        let with_output = |bytes: usize| {
            let result = "x".repeat(bytes - r#"{"result":""}"#.len());
            format!(r#"{{"TaskToken":"abc","result":"{result}"}}"#)
        };
        assert!(told(&with_output(TASK_OUTPUT_BYTES)).await[0].starts_with("success abc "));
        let calls = told(&with_output(TASK_OUTPUT_BYTES + 1)).await;
        assert_eq!(calls.len(), 1);
        assert!(
            calls[0].starts_with("failure abc TaskTokenDone.OutputTooLarge | the output has 262145 bytes")
        );
    }
}
