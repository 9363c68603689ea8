use aws_sdk_sfn::error::{ProvideErrorMetadata, SdkError};
use jiff::{SignedDuration, Timestamp};
use postern_runtime::NamedError;
use postern_runtime::aws::{Failure, failure};
use postern_types::limits::TIMEOUT_SECONDS;
use postern_types::{InvalidToken, JobId, TaskToken};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::link::{Ask, Decision, InvalidLink, Key};
use crate::page::Page;

/// What a state machine can match. All of it is said before any link is made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "the event must be {{\"TaskToken\", \"Question\", \"Page\", \"ExpiresInSeconds\"?}} or a request of a \
         function URL (line {line}, column {column})"
    )]
    Shape { line: usize, column: usize },
    #[error(transparent)]
    Token(#[from] InvalidToken),
    #[error("Question has {0} characters; it must have 1 to {QUESTION_CHARS}")]
    Question(usize),
    #[error(
        "Page must be the address of the function's URL, such as https://id.lambda-url.eu-west-1.on.aws/"
    )]
    Page,
    #[error("ExpiresInSeconds must be a whole number from 1 to {TIMEOUT_SECONDS}")]
    Expiry,
}

impl NamedError for Error {
    fn name(&self) -> &'static str {
        "Approval.InvalidInput"
    }
}

/// A link must fit into a mail and into a request line.
const QUESTION_CHARS: usize = 500;
/// The task's error when a person says no. The state machine catches it by this name.
const REJECTED: &str = "Approval.Rejected";
/// The task's output when a person says yes.
const APPROVED: &str = r#"{"decision":"APPROVED"}"#;

/// How Step Functions took a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    Taken,
    /// The task was answered before, or has ended.
    Closed,
    /// Not now, or not at all: the person should know. The reason, for the log.
    Failed(Failure, String),
}

/// What the handler needs of Step Functions.
pub(crate) trait Tasks {
    async fn approve(&self, token: &TaskToken, output: &str) -> Reply;
    async fn reject(&self, token: &TaskToken, error: &str, cause: &str) -> Reply;
}

impl Tasks for aws_sdk_sfn::Client {
    async fn approve(&self, token: &TaskToken, output: &str) -> Reply {
        reply(self.send_task_success().task_token(token.expose()).output(output).send().await)
    }

    async fn reject(&self, token: &TaskToken, error: &str, cause: &str) -> Reply {
        reply(self.send_task_failure().task_token(token.expose()).error(error).cause(cause).send().await)
    }
}

fn reply<T, E: ProvideErrorMetadata>(answer: Result<T, SdkError<E>>) -> Reply {
    let Err(error) = answer else { return Reply::Taken };
    if let Some("TaskTimedOut" | "TaskDoesNotExist" | "InvalidToken") = error.code() {
        return Reply::Closed;
    }
    let (kind, reason) = failure(&error);
    Reply::Failed(kind, reason)
}

/// The two links of a task.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Links {
    pub(crate) job_id: JobId,
    pub(crate) approve: String,
    pub(crate) reject: String,
    pub(crate) expires_at: Timestamp,
}

/// For the state machine, or for a browser.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum Answer {
    Links(Links),
    Page(Page),
}

/// A function URL puts what a caller sends into `body`, `headers` and the like: no caller of the URL can make
/// an event without `requestContext`, so none can ask for links.
#[derive(Deserialize)]
#[serde(untagged)]
enum Event {
    #[serde(rename_all = "camelCase")]
    Http {
        request_context: RequestContext,
        #[serde(default)]
        raw_query_string: String,
    },
    #[serde(rename_all = "PascalCase")]
    Request { task_token: String, question: String, page: String, expires_in_seconds: Option<i64> },
}

#[derive(Deserialize)]
struct RequestContext {
    http: Http,
}

#[derive(Deserialize)]
struct Http {
    method: String,
}

/// Makes the links of a task, or serves one.
pub(crate) async fn handle(
    tasks: &impl Tasks,
    key: &Key,
    event: &RawValue,
    now: Timestamp,
) -> Result<Answer, Error> {
    let event = serde_json::from_str(event.get())
        .map_err(|error| Error::Shape { line: error.line(), column: error.column() })?;
    match event {
        Event::Http { request_context, raw_query_string } => {
            Ok(Answer::Page(serve(tasks, key, &request_context.http.method, &raw_query_string, now).await))
        }
        Event::Request { task_token, question, page, expires_in_seconds } => {
            let ask = Ask { token: TaskToken::parse(task_token)?, question };
            links(key, &ask, &page, expires_in_seconds, now).map(Answer::Links)
        }
    }
}

fn links(key: &Key, ask: &Ask, page: &str, expires_in: Option<i64>, now: Timestamp) -> Result<Links, Error> {
    const A_DAY: i64 = 86_400;
    let seconds = expires_in.unwrap_or(A_DAY);
    if !(1..=i64::from(TIMEOUT_SECONDS)).contains(&seconds) {
        return Err(Error::Expiry);
    }
    match ask.question.chars().count() {
        1..=QUESTION_CHARS => {}
        chars => return Err(Error::Question(chars)),
    }
    // The emulator's address on this machine is the one that may do without TLS.
    let secure = page.starts_with("https://") || page.starts_with("http://127.0.0.1:");
    if !secure || page.contains(|it: char| it.is_whitespace() || it.is_control() || "?#\"<>".contains(it)) {
        return Err(Error::Page);
    }
    let expires_at = now.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX);
    let link = |decision| format!("{page}?{}", key.query(ask, decision, expires_at));
    let job_id = ask.token.job_id();
    tracing::info!(%job_id, %expires_at, "a person is asked");
    Ok(Links { job_id, approve: link(Decision::Approve), reject: link(Decision::Reject), expires_at })
}

/// Only POST decides: whoever looks at a link (a mail scanner, a preview) has decided nothing.
async fn serve(tasks: &impl Tasks, key: &Key, method: &str, query: &str, now: Timestamp) -> Page {
    let (decision, ask) = match key.read(query, now) {
        Ok(read) => read,
        Err(InvalidLink::Expired) => {
            return Page::says(410, "Too late", "This link has expired. Nothing was decided by it now.");
        }
        Err(InvalidLink::Forged) => {
            return Page::says(403, "Not a link of ours", "This link is incomplete or was changed.");
        }
    };
    match method {
        "GET" | "HEAD" => Page::question(&ask.question, decision),
        "POST" => decide(tasks, &ask, decision).await,
        _ => Page::says(405, "Not possible", "This page can be looked at and its button pressed."),
    }
}

async fn decide(tasks: &impl Tasks, ask: &Ask, decision: Decision) -> Page {
    let job_id = ask.token.job_id();
    let (reply, done) = match decision {
        Decision::Approve => (tasks.approve(&ask.token, APPROVED).await, "You approved"),
        Decision::Reject => (
            tasks.reject(&ask.token, REJECTED, "a person rejected it through the link").await,
            "You rejected",
        ),
    };
    match reply {
        Reply::Taken => {
            tracing::info!(%job_id, ?decision, "decided");
            Page::says(200, done, "You can close this page.")
        }
        Reply::Closed => {
            tracing::info!(%job_id, ?decision, "the task had ended before");
            Page::says(409, "Already decided", "This was decided before, or nobody waits for it any more.")
        }
        Reply::Failed(kind, reason) => {
            tracing::error!(%job_id, ?kind, reason, "the decision could not be delivered");
            Page::says(503, "Not decided", "Your decision could not be delivered. Try again in a minute.")
        }
    }
}

#[cfg(test)]
mod tests;
