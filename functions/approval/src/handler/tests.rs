use std::cell::RefCell;

use postern_approval::{Key, KeySource};
use postern_jobs::{MemoryJobs, State};
use postern_runtime::env::Environment;
use postern_runtime::secrets::{UnreadableSecret, Version};
use serde_json::{Value, json};

use super::*;

/// Records the calls, and accepts the first answer to each token.
#[derive(Default)]
struct StepFunctions {
    calls: RefCell<Vec<String>>,
    down: bool,
}

impl StepFunctions {
    fn record(&self, token: &TaskToken, call: &str) -> Reply {
        if self.down {
            return Reply::Failed(Failure::Unavailable, "no connection".into());
        }
        let mut calls = self.calls.borrow_mut();
        let used = calls.iter().any(|call| call.starts_with(token.expose()));
        calls.push(format!("{} {call}", token.expose()));
        if used { Reply::Closed } else { Reply::Taken }
    }
}

impl Tasks for StepFunctions {
    async fn approve(&self, token: &TaskToken, output: &str) -> Reply {
        self.record(token, &format!("success {output}"))
    }

    async fn reject(&self, token: &TaskToken, error: &str, _cause: &str) -> Reply {
        self.record(token, &format!("failure {error}"))
    }
}

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// The key comes from the environment, so that no secret is read.
struct NoSecrets;

impl ReadSecret for NoSecrets {
    async fn read(&self, id: &str, _version: Version) -> Result<Option<String>, UnreadableSecret> {
        panic!("the secret {id} was read");
    }
}

async fn handled(tasks: &StepFunctions, event: &Value, now: Timestamp) -> Result<Answer, Error> {
    handled_with(&record(None), tasks, event, now).await
}

fn record(jobs: Option<MemoryJobs>) -> Record<MemoryJobs> {
    let Ok(record) = Record::from_env(&Environment::of(&[]), jobs) else { panic!("tenant1 is a tenant") };
    record
}

async fn handled_with(
    record: &Record<MemoryJobs>,
    tasks: &StepFunctions,
    event: &Value,
    now: Timestamp,
) -> Result<Answer, Error> {
    let event = RawValue::from_string(event.to_string()).unwrap();
    let key = KeySource::Fixed(Key::new(&[7; 32]).unwrap().into());
    let Ok(keys) = Keyring::open(key, NoSecrets, NOW).await else { panic!("a fixed key needs no secret") };
    handle(tasks, record, &keys, &event, now).await
}

fn request() -> Value {
    json!({"TaskToken": "the-token", "Question": "Restart line <7>?", "Page": "https://page.example/",
        "ExpiresInSeconds": 60})
}

async fn links_of_a_task(tasks: &StepFunctions) -> Links {
    match handled(tasks, &request(), NOW).await.unwrap() {
        Answer::Links(links) => links,
        Answer::Page(page) => panic!("{page:?}"),
    }
}

async fn visit(tasks: &StepFunctions, method: &str, link: &str, now: Timestamp) -> Page {
    let query = link.strip_prefix("https://page.example/?").unwrap();
    let event = json!({"requestContext": {"http": {"method": method}}, "rawQueryString": query});
    match handled(tasks, &event, now).await.unwrap() {
        Answer::Page(page) => page,
        Answer::Links(_) => panic!("a request of the URL got links"),
    }
}

#[tokio::test]
async fn a_get_decides_nothing_and_the_first_post_decides() {
    let tasks = StepFunctions::default();
    let links = links_of_a_task(&tasks).await;
    for method in ["GET", "HEAD", "GET"] {
        let page = visit(&tasks, method, &links.approve, NOW).await;
        assert_eq!(page.status_code, 200);
        assert!(page.body.contains("Restart line &lt;7&gt;?") && page.body.contains(">Approve</button>"));
    }

    assert_eq!(visit(&tasks, "PUT", &links.approve, NOW).await.status_code, 405);
    assert!(tasks.calls.borrow().is_empty());
    assert_eq!(visit(&tasks, "POST", &links.approve, NOW).await.status_code, 200);
    for used in [&links.approve, &links.reject] {
        let page = visit(&tasks, "POST", used, NOW).await;
        assert_eq!(page.status_code, 409);
        assert!(page.body.contains("Already decided"), "{}", page.body);
    }
    assert_eq!(tasks.calls.borrow()[0], r#"the-token success {"decision":"APPROVED"}"#);
}

#[tokio::test]
async fn a_rejection_is_an_error_that_the_state_machine_catches() {
    let tasks = StepFunctions::default();
    let links = links_of_a_task(&tasks).await;
    assert_eq!(visit(&tasks, "POST", &links.reject, NOW).await.status_code, 200);
    assert_eq!(tasks.calls.into_inner(), ["the-token failure Approval.Rejected"]);
    let machine = include_str!("../../../../statemachines/approve.asl.json");

    assert!(machine.contains(&format!("\"{REJECTED}\"")));
}

#[tokio::test]
async fn an_expired_or_forged_link_gets_its_own_page_and_decides_nothing() {
    let tasks = StepFunctions::default();
    let links = links_of_a_task(&tasks).await;
    for method in ["GET", "POST"] {
        let page = visit(&tasks, method, &links.approve, links.expires_at).await;
        assert_eq!((page.status_code, page.body.contains("expired")), (410, true));
        let turned = links.reject.replace("d=reject", "d=approve");
        let page = visit(&tasks, method, &turned, NOW).await;
        assert_eq!((page.status_code, page.body.contains("was changed")), (403, true));
    }

    assert!(tasks.calls.borrow().is_empty());
}

#[tokio::test]
async fn a_decision_that_could_not_be_delivered_can_be_made_again() {
    let links = links_of_a_task(&StepFunctions::default()).await;
    let page = visit(&StepFunctions { down: true, ..Default::default() }, "POST", &links.approve, NOW).await;
    assert_eq!(page.status_code, 503);
    let tasks = StepFunctions::default();
    assert_eq!(visit(&tasks, "POST", &links.approve, NOW).await.status_code, 200);
}

#[tokio::test]
async fn the_table_has_the_question_with_a_link_and_then_the_decision() {
    let tasks = StepFunctions::default();
    let table = record(Some(MemoryJobs::default()));
    let jobs = table.jobs().unwrap();
    for (token, tenant, decision, state) in
        [("one", None, "approve", State::Succeeded), ("two", Some("tenant2"), "reject", State::Failed)]
    {
        let mut event = request();
        event["TaskToken"] = json!(token);
        event["Execution"] = json!("arn:execution");
        if let Some(tenant) = tenant {
            event["Tenant"] = json!(tenant);
        }
        let Answer::Links(links) = handled_with(&table, &tasks, &event, NOW).await.unwrap() else { panic!() };

        let tenant = Tenant::parse(tenant.unwrap_or("tenant1")).unwrap();
        let asked = jobs.get(&tenant, &links.job_id).await.unwrap().unwrap();
        assert_eq!(
            (asked.kind.as_deref(), asked.execution.as_deref()),
            (Some("approval"), Some("arn:execution"))
        );
        assert_eq!((asked.name.as_deref(), asked.state), (Some("Restart line <7>?"), State::Dispatched));
        assert!(asked.approval.unwrap().starts_with("d=approve&e=60&t="));

        let link = if decision == "approve" { &links.approve } else { &links.reject };
        let query = link.strip_prefix("https://page.example/?").unwrap();
        let event = json!({"requestContext": {"http": {"method": "POST"}}, "rawQueryString": query});
        handled_with(&table, &tasks, &event, NOW).await.unwrap();
        assert_eq!(jobs.get(&tenant, &links.job_id).await.unwrap().unwrap().state, state);
    }
}

#[tokio::test]
async fn a_table_that_does_not_answer_hinders_no_decision() {
    let tasks = StepFunctions::default();
    let table = record(Some(MemoryJobs::unavailable()));
    let Ok(Answer::Links(links)) = handled_with(&table, &tasks, &request(), NOW).await else { panic!() };
    let query = links.approve.strip_prefix("https://page.example/?").unwrap();
    let event = json!({"requestContext": {"http": {"method": "POST"}}, "rawQueryString": query});
    let Ok(Answer::Page(page)) = handled_with(&table, &tasks, &event, NOW).await else { panic!() };
    assert_eq!(page.status_code, 200);
}

#[tokio::test]
async fn no_link_shows_the_token() {
    let links = links_of_a_task(&StepFunctions::default()).await;
    let answer = serde_json::to_string(&links).unwrap();
    assert!(!answer.contains("the-token"), "{answer}");
    assert!(links.approve.starts_with("https://page.example/?d=approve&e=60&t="), "{}", links.approve);
}

#[tokio::test]
async fn an_invalid_request_is_an_error_without_the_token() {
    for (field, value) in [
        ("TaskToken", json!("")),
        ("TaskToken", json!(7)),
        ("Question", json!("")),
        ("Question", json!("x".repeat(501))),
        ("Page", json!("http://page.example/")),
        ("Page", json!("https://page.example/?x=1")),
        ("Page", json!("javascript:alert(1)")),
        ("ExpiresInSeconds", json!(0)),
        ("ExpiresInSeconds", json!(100_000_000)),
        ("Tenant", json!("+")),
        ("Execution", json!(7)),
    ] {
        let mut event = request();
        event[field] = value;
        let error = handled(&StepFunctions::default(), &event, NOW).await.unwrap_err();
        assert_eq!(error.name(), "Approval.InvalidInput", "{event}");
        assert!(!error.to_string().contains("the-token"));
    }

    assert!(handled(&StepFunctions::default(), &json!([]), NOW).await.is_err());
}

#[tokio::test]
async fn a_missing_field_is_named() {
    for field in ["TaskToken", "Question", "Page"] {
        let mut event = request();
        event.as_object_mut().unwrap().remove(field);
        let error = handled(&StepFunctions::default(), &event, NOW).await.unwrap_err();
        assert_eq!(error.to_string(), format!("{field} is missing"));
    }

    for (field, value, message) in [
        ("Question", json!(7), "Question is a number; it must be a string"),
        (
            "ExpiresInSeconds",
            json!("1"),
            "ExpiresInSeconds must be a whole number of seconds from 1 to 99999999",
        ),
    ] {
        let mut event = request();
        event[field] = value;
        let error = handled(&StepFunctions::default(), &event, NOW).await.unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}

#[tokio::test]
async fn the_sample_events_do_what_their_names_say() {
    let sample = async |name: &str| {
        let path = format!("{}/../../events/approval/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let event = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        handled(&StepFunctions::default(), &event, NOW).await
    };

    assert!(matches!(sample("ask").await.unwrap(), Answer::Links(_)));
    assert_eq!(sample("invalid-no-question").await.unwrap_err().name(), "Approval.InvalidInput");
    let Answer::Page(page) = sample("page-forged").await.unwrap() else { panic!("a page") };
    assert_eq!(page.status_code, 403);
}
