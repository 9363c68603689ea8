//! Requests of API Gateway, answered with services that remember what they were asked for.

mod decide;
mod live;
mod payloads;
mod start;
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

/// The key of approvals comes from the environment, so that no secret is read.
pub(super) struct NoSecrets;

impl ReadSecret for NoSecrets {
    async fn read(&self, id: &str, _version: Version) -> Result<Option<String>, UnreadableSecret> {
        panic!("the secret {id} was read");
    }
}

type TestApi<'a> = Api<MemoryJobs, &'a Services, &'a Services, NoSecrets>;

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
    let machines = format!("tenant1/on-prem-job={ARN}");
    let variables =
        [&[("MACHINES", machines.as_str()), ("OIDC_ISSUER", "https://issuer.example")], more].concat();
    let Ok(config) = Config::from_env(&Environment::of(&variables)) else {
        panic!("the variables are valid")
    };

    let key = KeySource::Fixed(Key::new(&[7; 32]).unwrap().into());
    let keys = Keyring::open(key, NoSecrets, now()).await.ok();
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
async fn the_page_and_the_description_are_open_and_all_else_needs_a_caller() {
    let services = Services::default();
    let api = api(&services).await;
    for path in ["/", "/console.js", "/console.css", "/config.json", "/openapi.json"] {
        assert_eq!(request("GET", path).to(&api).await.status, 200, "{path}");
        assert_eq!(request("POST", path).to(&api).await.problem(), "method-not-allowed", "{path}");
    }

    let id = job(&api, "tenant1", "the-token", |_| {}).await;
    let paths = ["/session", "/jobs", "/machines", "/workers", "/nowhere"].map(str::to_owned);
    for path in paths.into_iter().chain([format!("/jobs/{id}"), format!("/jobs/{id}/log")]) {
        let answer = request("GET", &path).header("authorization", "Bearer a.b.c").to(&api).await;
        assert_eq!((answer.status, answer.problem()), (401, "unauthorized"), "{path}");
    }
}

#[tokio::test]
async fn the_page_has_a_strict_policy_and_every_answer_the_headers_of_security() {
    let services = Services::default();
    let api = api(&services).await;
    let page = request("GET", "/").to(&api).await;
    let policy = page.headers["content-security-policy"].as_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
    assert!(policy.contains("connect-src 'self' https://issuer.example;"), "{policy}");

    for answer in [page, get("/jobs").to(&api).await, get("/nowhere").to(&api).await] {
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert_eq!(answer.headers["referrer-policy"], "no-referrer");
        assert!(
            answer.headers["content-security-policy"].as_str().unwrap().contains("frame-ancestors 'none'")
        );
    }
}

#[tokio::test]
async fn a_tenant_sees_its_own_jobs_only() {
    let services = Services::default();
    let api = api(&services).await;
    let own = job(&api, "tenant1", "one", |_| {}).await;
    let other = job(&api, "tenant2", "two", |new| new.kind = Some("approval".into())).await;

    let list = get("/jobs").to(&api).await;
    assert_eq!((list.status, list.json["jobs"].as_array().unwrap().len()), (200, 1));
    assert_eq!((&list.json["jobs"][0]["jobId"], &list.json["next"]), (&json!(own), &json!(null)));

    let all = "[viewer operator approver]";
    for (method, path) in [
        ("GET", format!("/jobs/{other}")),
        ("GET", format!("/jobs/{other}/timeline")),
        ("GET", format!("/jobs/{other}/log")),
        ("GET", format!("/jobs/{other}/input")),
        ("GET", format!("/jobs/{other}/result")),
        ("POST", format!("/jobs/{other}/stop")),
        ("POST", format!("/jobs/{other}/approve")),
        ("POST", format!("/jobs/{other}/reject")),
        ("GET", "/jobs/key%230123/log".to_owned()),
        ("GET", "/jobs/ffffffffffffffffffffffffffffffff".to_owned()),
    ] {
        let sent = request(method, &path).by("tenant1", all);
        let sent = if method == "POST" { sent.body(&json!({})) } else { sent };
        let answer = sent.to(&api).await;
        assert_eq!((answer.status, answer.problem()), (404, "not-found"), "{path}");
    }
    assert!(services.calls.borrow().is_empty());
}

#[tokio::test]
async fn a_list_is_read_page_by_page_and_a_page_has_at_most_a_hundred_jobs() {
    let services = Services::default();
    let api = api(&services).await;
    for number in 0..3 {
        job(&api, "tenant1", &format!("token {number}"), |_| {}).await;
    }

    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = get(&format!("/jobs?limit=1{cursor}")).to(&api).await.json;
        let jobs = page["jobs"].as_array().unwrap();
        assert!(jobs.len() <= 1, "{page}");
        seen.extend(jobs.iter().map(|job| job["jobId"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        assert!(seen.len() < 10, "the list does not end");
        cursor = format!("&cursor={next}");
    }
    seen.dedup();
    assert_eq!(seen.len(), 3);

    assert_eq!(get("/jobs?limit=1000000").to(&api).await.problem(), "invalid-request");
    assert_eq!(get("/jobs?cursor=e30").to(&api).await.problem(), "invalid-cursor");
    assert_eq!(get("/jobs?tenant=tenant2").to(&api).await.problem(), "invalid-request");
    assert_eq!(get("/session?x=1").to(&api).await.problem(), "invalid-request");
}

#[tokio::test]
async fn a_list_that_has_not_changed_is_not_sent_again() {
    let services = Services::default();
    let api = api(&services).await;
    let tag = get("/jobs").to(&api).await.headers["etag"].as_str().unwrap().to_owned();

    let again = get("/jobs").header("if-none-match", &tag).to(&api).await;
    assert_eq!((again.status, &*again.text), (304, ""));
    job(&api, "tenant1", "new", |_| {}).await;
    assert_eq!(get("/jobs").header("if-none-match", &tag).to(&api).await.status, 200);
}

#[tokio::test]
async fn roles_limit_what_a_caller_may_change() {
    let services = Services::default();
    let api = api(&services).await;
    let id = job(&api, "tenant1", "one", |_| {}).await;
    let stop = format!("/jobs/{id}/stop");
    for (path, roles, allowed) in [
        (stop.as_str(), "viewer", false),
        (&stop, "viewer approver", false),
        (&stop, "operator", true),
        (&format!("/jobs/{id}/approve"), "viewer operator", false),
        ("/jobs", "approver", false),
        ("/workers/w/pause", "viewer", false),
    ] {
        let answer = request("POST", path).by("tenant1", roles).body(&json!({})).to(&api).await;
        assert_eq!(answer.status != 403, allowed, "{path} {roles}: {answer:?}");
    }
    assert_eq!(request("GET", "/jobs").by("tenant1", "").to(&api).await.problem(), "forbidden");
}

#[tokio::test]
async fn a_form_of_another_site_changes_nothing() {
    let services = Services::default();
    let api = api(&services).await;
    let id = job(&api, "tenant1", "one", |_| {}).await;
    for kind in ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x", ""] {
        let sent = post(&format!("/jobs/{id}/stop")).text(kind, "{}").header("cookie", "token=a.b.c");
        let answer = sent.to(&api).await;
        assert_eq!((answer.status, answer.problem()), (415, "unsupported-media-type"), "{kind}");
    }
    assert!(services.calls.borrow().is_empty());
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
async fn stopping_a_job_stops_its_execution_and_tells_the_worker_once() {
    let services = Services::default();
    let api = api(&services).await;
    let id = job(&api, "tenant1", "one", |new| {
        new.deadline = now().saturating_add(jiff::SignedDuration::from_secs(90)).ok()
    })
    .await;
    let stop = format!("/jobs/{id}/stop");

    assert_eq!(post(&stop).body(&json!({"reason": "no longer needed"})).to(&api).await.status, 202);
    let message =
        format!(r#"publish tenant1/to/worker/cancel {{"JobId":"{id}","Reason":"no longer needed"}} 90"#);
    let stopped = "stop arn:aws:states:eu-west-1:1:execution:on-prem-job:one no longer needed".to_owned();
    assert_eq!(*services.calls.borrow(), [stopped, message]);

    let end = postern_jobs::End::new(State::Cancelled, postern_jobs::Rank::ExecutionEnded);
    api.jobs.ended(&tenant("tenant1"), &id, &end, now()).await.unwrap();
    assert_eq!(post(&stop).body(&json!({})).to(&api).await.status, 202);
    assert_eq!(services.calls.borrow().len(), 2, "a repeated request changes nothing");
}

#[tokio::test]
async fn a_job_that_has_ended_cannot_be_stopped() {
    let services = Services::default();
    let api = api(&services).await;
    let id = job(&api, "tenant1", "one", |_| {}).await;
    let end = postern_jobs::End::new(State::Succeeded, postern_jobs::Rank::Answered);
    api.jobs.ended(&tenant("tenant1"), &id, &end, now()).await.unwrap();
    assert_eq!(post(&format!("/jobs/{id}/stop")).body(&json!({})).to(&api).await.problem(), "conflict");
}

#[tokio::test]
async fn a_broker_that_is_away_does_not_hinder_a_stop_unless_it_is_the_only_way() {
    let services = Services { offline: true, ..Services::default() };
    let api = api(&services).await;
    let id = job(&api, "tenant1", "one", |_| {}).await;
    assert_eq!(post(&format!("/jobs/{id}/stop")).body(&json!({})).to(&api).await.status, 202);
    let id = job(&api, "tenant1", "two", |new| new.execution = None).await;
    assert_eq!(post(&format!("/jobs/{id}/stop")).body(&json!({})).to(&api).await.problem(), "unavailable");
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
