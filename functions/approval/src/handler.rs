//! Makes the two links of a task, and serves the page behind a link.

use aws_sdk_sfn::error::{ProvideErrorMetadata, SdkError};
use jiff::{SignedDuration, Timestamp};
use postern_approval::{Ask, Decision, InvalidLink, Keyring, REJECTED};
use postern_jobs::{Jobs, NewJob};
use postern_runtime::NamedError;
use postern_runtime::aws::{Failure, failure, is_closed_task};
use postern_runtime::secrets::ReadSecret;
use postern_types::{InvalidField, InvalidTenant, InvalidToken, JobId, TaskToken, Tenant, fields};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::page::Page;
use crate::record::Record;

/// The reasons for which an event is refused. A state machine matches their common name.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "the event must be an object with TaskToken, Question and Page, or a request of a function URL: {0}"
    )]
    Shape(String),
    #[error(transparent)]
    Field(#[from] InvalidField),
    #[error(transparent)]
    Token(#[from] InvalidToken),
    #[error(transparent)]
    Tenant(#[from] InvalidTenant),
    #[error("Question has {0} characters; it must have 1 to {QUESTION_CHARS}")]
    Question(usize),
    #[error(
        "Page must be the address of the function's URL, such as https://id.lambda-url.eu-west-1.on.aws/"
    )]
    Page,
}

impl NamedError for Error {
    fn name(&self) -> &'static str {
        "Approval.InvalidInput"
    }
}

/// The longest question, in characters: a link must fit into a mail and into a request line.
const QUESTION_CHARS: usize = 500;
/// The cause of a task that a person rejected.
const REJECTED_HERE: &str = "a person rejected it through the link";
/// The output of a task that a person approved.
const APPROVED: &str = r#"{"decision":"APPROVED"}"#;

/// The reply of Step Functions to a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Step Functions accepted the decision.
    Taken,
    /// The task was answered before, timed out, or never existed.
    Closed,
    /// The decision did not arrive, and the person must know it. The text is the reason, for the log.
    Failed(Failure, String),
}

/// The calls of Step Functions that the handler makes.
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
    if is_closed_task(error.code()) {
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

/// The function's answer: links for the state machine, or a page for a browser.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum Answer {
    Links(Links),
    Page(Page),
}

/// The members that tell a request of the function URL from a request of a state machine.
///
/// A function URL passes the caller's data in `body`, `headers` and the like, and adds `requestContext` to every event.
/// No caller of the URL can therefore make an event that asks for links.
#[derive(Deserialize)]
struct EventFields {
    #[serde(rename = "requestContext")]
    request_context: Option<RequestContext>,
    #[serde(rename = "rawQueryString")]
    raw_query_string: Option<String>,
    #[serde(rename = "TaskToken")]
    task_token: Option<Box<RawValue>>,
    #[serde(rename = "Question")]
    question: Option<Box<RawValue>>,
    #[serde(rename = "Page")]
    page: Option<Box<RawValue>>,
    #[serde(rename = "ExpiresInSeconds")]
    expires_in_seconds: Option<Box<RawValue>>,
    #[serde(rename = "Tenant")]
    tenant: Option<Box<RawValue>>,
    #[serde(rename = "Execution")]
    execution: Option<Box<RawValue>>,
    #[serde(rename = "State")]
    state: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct RequestContext {
    http: Http,
}

#[derive(Deserialize)]
struct Http {
    method: String,
}

/// Makes the links of a task, or serves the page behind a link.
pub(crate) async fn handle(
    tasks: &impl Tasks,
    record: &Record<impl Jobs>,
    keys: &Keyring<impl ReadSecret>,
    event: &RawValue,
    now: Timestamp,
) -> Result<Answer, Error> {
    let fields: EventFields = fields::object(event).map_err(Error::Shape)?;

    if let Some(RequestContext { http }) = fields.request_context {
        let query = fields.raw_query_string.unwrap_or_default();
        return Ok(Answer::Page(serve(tasks, record, keys, &http.method, &query, now).await));
    }
    let request = Request::read(&fields, record.tenant())?;
    Ok(Answer::Links(links(record, keys, request, now).await))
}

/// A state machine's request for links.
struct Request {
    ask: Ask,
    page: String,
    expires_in: SignedDuration,
    tenant: Tenant,
    execution: Option<String>,
    state: Option<String>,
}

impl Request {
    fn read(fields: &EventFields, default_tenant: &Tenant) -> Result<Self, Error> {
        const A_DAY: u32 = 86_400;
        let token = fields::required_string("TaskToken", fields.task_token.as_deref())?;
        let question = fields::required_string("Question", fields.question.as_deref())?;
        let page = fields::required_string("Page", fields.page.as_deref())?;
        let seconds = fields::seconds("ExpiresInSeconds", fields.expires_in_seconds.as_deref())?;

        match question.chars().count() {
            1..=QUESTION_CHARS => {}
            chars => return Err(Error::Question(chars)),
        }
        // Only the local emulator's address may do without TLS.
        let secure = page.starts_with("https://") || page.starts_with("http://127.0.0.1:");
        let invalid = |c: char| c.is_whitespace() || c.is_control() || "?#\"<>".contains(c);
        if !secure || page.contains(invalid) {
            return Err(Error::Page);
        }

        let tenant = fields::string("Tenant", fields.tenant.as_deref())?;
        let tenant = tenant.map_or_else(|| Ok(default_tenant.clone()), |tenant| Tenant::parse(&tenant))?;
        let ask = Ask { token: TaskToken::parse(token)?, question, tenant: Some(tenant.to_string()) };
        Ok(Self {
            ask,
            page,
            expires_in: SignedDuration::from_secs(seconds.unwrap_or(A_DAY).into()),
            tenant,
            execution: fields::string("Execution", fields.execution.as_deref())?,
            state: fields::string("State", fields.state.as_deref())?,
        })
    }
}

async fn links(
    record: &Record<impl Jobs>,
    keys: &Keyring<impl ReadSecret>,
    request: Request,
    now: Timestamp,
) -> Links {
    let Request { ask, page, expires_in, tenant, execution, state } = request;
    let job_id = ask.token.job_id();
    let expires_at = now.saturating_add(expires_in).unwrap_or(Timestamp::MAX);
    let link = |decision| format!("{page}?{}", keys.query(&ask, decision, expires_at));

    let job = NewJob {
        name: Some(ask.question.clone()),
        execution,
        state_name: state,
        deadline: Some(expires_at),
        approval: Some(keys.query(&ask, Decision::Approve, expires_at)),
        ..NewJob::new(tenant, job_id.clone(), now)
    };
    record.asked(job).await;

    tracing::info!(%job_id, %expires_at, "approval links made");
    Links { job_id, approve: link(Decision::Approve), reject: link(Decision::Reject), expires_at }
}

/// Serves the page behind a link. Only POST decides, because mail scanners and previews open links with GET.
async fn serve(
    tasks: &impl Tasks,
    record: &Record<impl Jobs>,
    keys: &Keyring<impl ReadSecret>,
    method: &str,
    query: &str,
    now: Timestamp,
) -> Page {
    let (decision, ask) = match keys.read(query, now).await {
        Ok(read) => read,
        Err(InvalidLink::Expired) => {
            return Page::message(410, "Too late", "This link has expired. No decision was made.");
        }
        Err(InvalidLink::Forged) => {
            return Page::message(403, "Invalid link", "This link is incomplete or was changed.");
        }
    };

    match method {
        "GET" | "HEAD" => Page::question(&ask.question, decision),
        "POST" => decide(tasks, record, &ask, decision, now).await,
        _ => Page::message(405, "Method not allowed", "Open the link with GET and decide with POST."),
    }
}

async fn decide(
    tasks: &impl Tasks,
    record: &Record<impl Jobs>,
    ask: &Ask,
    decision: Decision,
    now: Timestamp,
) -> Page {
    let job_id = ask.token.job_id();
    let (reply, done) = match decision {
        Decision::Approve => (tasks.approve(&ask.token, APPROVED).await, "You approved"),
        Decision::Reject => (tasks.reject(&ask.token, REJECTED, REJECTED_HERE).await, "You rejected"),
    };

    match reply {
        Reply::Taken => {
            tracing::info!(%job_id, ?decision, "decision delivered");
            record.decided(ask, decision, REJECTED_HERE, now).await;
            Page::message(200, done, "You can close this page.")
        }
        Reply::Closed => {
            tracing::info!(%job_id, ?decision, "the task had ended before");
            Page::message(
                409,
                "Already decided",
                "The decision was made before, or its time limit has passed.",
            )
        }
        Reply::Failed(kind, reason) => {
            tracing::error!(%job_id, ?kind, reason, "the decision could not be delivered");
            Page::message(503, "Not decided", "Your decision could not be delivered. Try again in a minute.")
        }
    }
}

#[cfg(test)]
mod tests;
