//! Requests of API Gateway, answered with services that remember what they were asked for.

mod access;
mod decide;
mod lists;
mod live;
mod payloads;
mod start;
mod stop;
mod workers;

use std::cell::RefCell;
use std::collections::BTreeMap;

use postern_approval::{Key, KeySource};
use postern_jobs::{MemoryJobs, NewJob, State};
use postern_runtime::env::Environment;
use postern_runtime::secrets::{UnreadableSecret, Version};
use postern_types::TaskToken;
use serde_json::{Value, json};

use super::*;
use crate::services::{Decided, HistoryEvent, Started};

const NOW: &str = "2026-11-24T22:00:00Z";
const ARN: &str = "arn:aws:states:eu-west-1:1:stateMachine:on-prem-job";

/// Step Functions and AWS IoT Core: what they have, and the calls that change something.
#[derive(Default)]
pub(super) struct Services {
    calls: RefCell<Vec<String>>,
    /// The inputs of executions, by their ARNs.
    executions: RefCell<BTreeMap<String, String>>,
    /// The pages of the history.
    history: Vec<Vec<HistoryEvent>>,
    /// Retained messages, by their topics.
    retained: BTreeMap<String, String>,
    /// Whether tasks have been answered before.
    closed: bool,
    /// Whether publishing fails.
    offline: bool,
}

impl Services {
    fn called(&self, call: String) {
        self.calls.borrow_mut().push(call);
    }
}

impl StepFunctions for &Services {
    async fn start(&self, machine: &str, name: &str, input: &str) -> Result<Started, Problem> {
        let execution = format!("{}:{name}", machine.replace(":stateMachine:", ":execution:"));
        let mut executions = self.executions.borrow_mut();
        if executions.contains_key(&execution) {
            return Ok(Started::Exists);
        }
        executions.insert(execution, input.to_owned());
        self.called(format!("start {input}"));
        Ok(Started::Running)
    }

    async fn input_of(&self, execution: &str) -> Result<Option<String>, Problem> {
        Ok(self.executions.borrow().get(execution).cloned())
    }

    async fn stop(&self, execution: &str, reason: &str) -> Result<(), Problem> {
        self.called(format!("stop {execution} {reason}"));
        Ok(())
    }

    async fn history(
        &self,
        _execution: &str,
        page: Option<String>,
    ) -> Result<Option<(Vec<HistoryEvent>, Option<String>)>, Problem> {
        let number: usize = page.map_or(0, |page| page.parse().unwrap());
        let next = (number + 1 < self.history.len()).then(|| (number + 1).to_string());
        Ok(self.history.get(number).map(|events| (events.clone(), next)))
    }

    async fn succeed(&self, token: &TaskToken, output: &str) -> Result<Decided, Problem> {
        self.called(format!("succeed {} {output}", token.expose()));
        Ok(if self.closed { Decided::Closed } else { Decided::Taken })
    }

    async fn fail(&self, token: &TaskToken, error: &str, cause: &str) -> Result<Decided, Problem> {
        self.called(format!("fail {} {error} {cause}", token.expose()));
        Ok(if self.closed { Decided::Closed } else { Decided::Taken })
    }
}

impl Broker for &Services {
    async fn publish(&self, topic: &str, payload: &str, expiry_seconds: i64) -> Result<(), Problem> {
        if self.offline {
            return Err(Problem::Unavailable { service: "AWS IoT Core" });
        }
        self.called(format!("publish {topic} {payload} {expiry_seconds}"));
        Ok(())
    }

    async fn retained_topics(&self, page: Option<String>) -> Result<(Vec<String>, Option<String>), Problem> {
        // Two topics a page.
        let start: usize = page.map_or(0, |page| page.parse().unwrap());
        let topics: Vec<_> = self.retained.keys().skip(start).take(2).cloned().collect();
        let next = (start + 2 < self.retained.len()).then(|| (start + 2).to_string());
        Ok((topics, next))
    }

    async fn retained(&self, topic: &str) -> Result<Option<Vec<u8>>, Problem> {
        Ok(self.retained.get(topic).map(|message| message.clone().into_bytes()))
    }
}

/// The values of a secret, one for each read. The key of approvals comes from the environment, so that most tests read none.
#[derive(Default)]
pub(super) struct Secrets(RefCell<Vec<String>>);

impl ReadSecret for Secrets {
    async fn read(&self, id: &str, _version: Version) -> Result<Option<String>, UnreadableSecret> {
        let mut values = self.0.borrow_mut();
        assert!(!values.is_empty(), "the secret {id} was read");
        Ok(Some(values.remove(0)))
    }
}

type TestApi<'a> = Api<MemoryJobs, &'a Services, &'a Services, Secrets>;

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn tenant(name: &str) -> Tenant {
    Tenant::parse(name).unwrap()
}

/// The API with one machine, which tenant1 may start, and without a proxy.
async fn api(services: &Services) -> TestApi<'_> {
    api_with(services, &[]).await
}

async fn api_with<'a>(services: &'a Services, more: &[(&str, &str)]) -> TestApi<'a> {
    api_that_read(services, more, Secrets::default(), Instant::now()).await
}

/// The API of a function that read its secrets at `then`.
async fn api_that_read<'a>(
    services: &'a Services,
    more: &[(&str, &str)],
    secrets: Secrets,
    then: Instant,
) -> TestApi<'a> {
    let machines = format!("tenant1/on-prem-job={ARN}");
    let fixed = [("MACHINES", &*machines), ("OIDC_ISSUER", "https://issuer.example")];
    let variables = fixed.iter().chain(more).map(|&(name, value)| (name.to_owned(), value.to_owned()));
    let variables: BTreeMap<_, _> = variables.collect();
    let environment = move || Environment::of(&[]).with(variables.clone());
    let config = |environment: &Environment<'_>| Ok(Config::from_env(environment)?);
    let Ok(config) = Rotating::start(environment, |_| Ok(secrets), config, then).await else {
        panic!("the variables are valid")
    };

    let key = KeySource::Fixed(Key::new(&[7; 32]).unwrap().into());
    let keys = Keyring::open(key, Secrets::default(), now()).await.ok();
    Api { config, jobs: MemoryJobs::default(), step_functions: services, broker: services, keys }
}

/// A job of a tenant in the table, with the id that belongs to a task token.
async fn job(api: &TestApi<'_>, owner: &str, token: &str, change: impl FnOnce(&mut NewJob)) -> JobId {
    let job_id = TaskToken::parse(token).unwrap().job_id();
    let mut new = NewJob::new(tenant(owner), job_id.clone(), now());
    new.kind = Some("add".into());
    new.execution = Some("arn:aws:states:eu-west-1:1:execution:on-prem-job:one".into());
    change(&mut new);

    assert!(api.jobs.dispatched(&new).await.unwrap());
    job_id
}

/// The item of a job, for tests of what is made of it.
pub(crate) fn item() -> JobItem {
    JobItem {
        tenant: "tenant1".into(),
        job_id: "0123456789abcdef0123456789abcdef".into(),
        state: State::Dispatched,
        rank: 1,
        kind: Some("add".into()),
        name: None,
        execution: None,
        state_name: None,
        attempt: None,
        idempotency_key: None,
        worker: None,
        topic: None,
        dispatched_at: Some("2026-11-24T22:00:00.000Z".into()),
        accepted_at: None,
        ended_at: None,
        deadline: None,
        percent: None,
        message: None,
        data: None,
        progress_at: None,
        log: Vec::new(),
        resumed: false,
        error: None,
        cause: None,
        approval: None,
    }
}

/// A request as API Gateway passes it on, from a caller of a tenant with roles.
struct Sent {
    event: Value,
}

fn request(method: &str, path: &str) -> Sent {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    Sent {
        event: json!({
            "version": "2.0", "rawPath": path, "rawQueryString": query, "headers": {},
            "requestContext": {"stage": "$default", "http": {"method": method, "path": path}},
        }),
    }
}

impl Sent {
    fn by(mut self, tenant: &str, roles: &str) -> Self {
        let claims = json!({"tenant": tenant, "roles": roles});
        self.event["requestContext"]["authorizer"] = json!({"jwt": {"claims": claims, "scopes": null}});
        self
    }

    fn header(mut self, name: &str, value: &str) -> Self {
        self.event["headers"][name] = json!(value);
        self
    }

    fn body(self, body: &Value) -> Self {
        self.text("application/json", &body.to_string())
    }

    fn text(mut self, kind: &str, text: &str) -> Self {
        self.event["body"] = json!(text);
        self.header("content-type", kind)
    }

    /// The answer's status, headers and body.
    async fn to(self, api: &TestApi<'_>) -> Answer {
        self.at(api, now()).await
    }

    async fn at(self, api: &TestApi<'_>, now: Timestamp) -> Answer {
        let event = RawValue::from_string(self.event.to_string()).unwrap();
        let answer = serde_json::to_value(api.handle(&event, now).await.unwrap()).unwrap();
        let text = answer["body"].as_str().unwrap_or_default().to_owned();
        Answer {
            status: answer["statusCode"].as_u64().unwrap(),
            headers: answer["headers"].clone(),
            json: serde_json::from_str(&text).unwrap_or_default(),
            text,
        }
    }
}

#[derive(Debug)]
struct Answer {
    status: u64,
    headers: Value,
    json: Value,
    text: String,
}

impl Answer {
    /// The anchor of the problem.
    fn problem(&self) -> &str {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{self:?}");
        self.json["type"].as_str().unwrap().rsplit('#').next().unwrap()
    }
}

fn get(path: &str) -> Sent {
    request("GET", path).by("tenant1", "[viewer]")
}

fn post(path: &str) -> Sent {
    request("POST", path).by("tenant1", "[viewer operator]")
}

#[tokio::test]
async fn an_invalid_body_is_refused_with_the_member_that_is_wrong() {
    let services = Services::default();
    let api = api(&services).await;
    for (body, part) in [
        ("", "machine"),
        ("[]", "object"),
        ("{", "EOF"),
        (r#"{"machine":7,"input":1}"#, "invalid type"),
        (r#"{"machine":"on-prem-job","input":1,"tenant":"tenant2"}"#, "tenant"),
    ] {
        let answer = post("/jobs").text("application/json; charset=utf-8", body).to(&api).await;
        assert_eq!(answer.problem(), "invalid-request", "{body}");
        assert!(answer.json["detail"].as_str().unwrap().contains(part), "{answer:?}");
    }

    let huge = "x".repeat(BODY_BYTES);
    let answer = post("/jobs").body(&json!({"machine": "on-prem-job", "input": huge})).to(&api).await;
    assert_eq!(answer.problem(), "too-large");
}

#[tokio::test]
async fn markup_in_the_texts_of_a_worker_is_text_in_json() {
    let services = Services::default();
    let api = api(&services).await;
    let id = job(&api, "tenant1", "one", |new| new.name = Some("<script>alert(1)</script>\u{1b}[31m".into()))
        .await;

    let answer = get(&format!("/jobs/{id}")).to(&api).await;
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(answer.headers["content-security-policy"], "default-src 'none'; frame-ancestors 'none'");
    assert_eq!(answer.json["name"], "<script>alert(1)</script>\u{1b}[31m");
}

#[tokio::test]
async fn a_table_that_does_not_answer_is_a_problem_that_passes() {
    let services = Services::default();
    let api = Api { jobs: MemoryJobs::unavailable(), ..api(&services).await };
    let answer = get("/jobs").to(&api).await;
    assert_eq!((answer.status, answer.problem()), (503, "unavailable"));
    assert_eq!(answer.headers["retry-after"], "1");
}

#[tokio::test]
async fn an_event_that_is_no_request_is_an_error_of_the_function() {
    let services = Services::default();
    let api = api(&services).await;
    let event = RawValue::from_string(json!({"TaskToken": "x"}).to_string()).unwrap();
    assert_eq!(api.handle(&event, now()).await.unwrap_err().name(), "JobsApi.InvalidEvent");
}

#[tokio::test]
async fn every_path_of_the_description_is_answered_and_no_other() {
    let description: Value = serde_json::from_str(include_str!("../openapi.json")).unwrap();
    let paths = description["paths"].as_object().unwrap();
    for (path, methods) in paths {
        let path = path.replace("{jobId}", "0123456789abcdef0123456789abcdef").replace("{worker}", "w");
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH"] {
            let described = methods.get(method.to_lowercase()).is_some();
            let found = Route::find(&Method::from_bytes(method.as_bytes()).unwrap(), &path);
            assert_eq!(found.is_ok(), described, "{method} {path}");
        }
    }
    assert_eq!(paths.len(), 16);
}

#[tokio::test]
async fn the_sample_events_do_what_their_names_say() {
    let services = Services::default();
    let api = api(&services).await;
    for (name, status) in [
        ("page", 200),
        ("list", 200),
        ("start", 202),
        ("invalid-no-caller", 401),
        ("invalid-limit", 400),
        ("invalid-form", 415),
    ] {
        let path = format!("{}/../../events/jobs-api/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let event = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(Sent { event }.to(&api).await.status, status, "{name}");
    }
}
