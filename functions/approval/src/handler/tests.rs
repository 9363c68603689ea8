use std::cell::RefCell;

use postern_runtime::secrets::{UnreadableSecret, Version};
use serde_json::{Value, json};

use super::*;
use crate::config::KeySource;
use crate::link::Key;

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
    let event = RawValue::from_string(event.to_string()).unwrap();
    let key = KeySource::Fixed(Key::new(&[7; 32]).unwrap().into());
    let Ok(keys) = Keyring::open(key, NoSecrets, NOW).await else { panic!("a fixed key needs no secret") };
    handle(tasks, &keys, &event, now).await
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
