use std::cell::RefCell;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Response, StatusCode};
use postern_jobs::State;
use postern_runtime::rotation::BETWEEN_READS;
use postern_runtime::secrets::{UnreadableSecret, Version};
use postern_testing::LoopbackServer;
use postern_types::{JobId, Tenant};
use serde_json::Value;

use super::*;

/// The first of [`changes`].
const ID: &str = "00000000000000000000000000000000";

/// A store whose secret has this value at each read; the last one stays.
struct Secrets(RefCell<Vec<String>>);

impl ReadSecret for Secrets {
    async fn read(&self, _: &str, _: Version) -> Result<Option<String>, UnreadableSecret> {
        let mut values = self.0.borrow_mut();
        Ok(Some(if values.len() > 1 { values.remove(0) } else { values[0].clone() }))
    }
}

/// A proxy's control endpoint that wants this bearer token, and the publications that it accepted.
fn proxy(token: &'static str) -> (String, Arc<Mutex<Vec<Value>>>) {
    let accepted = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&accepted);
    let server = LoopbackServer::start(move |request| {
        let right = request.headers().get("authorization").is_some_and(|given| given == token);
        if right {
            seen.lock().unwrap().push(serde_json::from_slice(request.body()).unwrap());
        }
        let status = if right { StatusCode::OK } else { StatusCode::FORBIDDEN };
        Response::builder().status(status).body(Bytes::new()).unwrap()
    });
    (server.url(), accepted)
}

/// A number of jobs of plant-7 that have changed.
fn changes(number: u32) -> Vec<Change> {
    let id = |number| JobId::parse(format!("{number:032x}")).unwrap();
    let tenant = Tenant::parse("plant-7").unwrap();
    (0..number)
        .map(|number| Change { tenant: tenant.clone(), job_id: id(number), state: State::Accepted })
        .collect()
}

/// Hints of a function whose secret has these values, one after the other, and was read at `now`.
async fn start(secrets: Vec<String>, now: Instant) -> Hints<Secrets> {
    let environment = || Environment::of(&[("GRIP_SECRET", "arn:grip"), ("GRIP_PREFIX", "app-")]);
    Hints::start(environment, |_| Ok(Secrets(RefCell::new(secrets))), now).await.unwrap()
}

#[tokio::test]
async fn a_hint_names_the_job_and_its_state_on_both_channels() {
    let (url, accepted) = proxy("Bearer right");
    let secret = json!({"GRIP_URL": format!("{url}/?key=right")}).to_string();
    let hints = start(vec![secret], Instant::now()).await;
    hints.hint(&changes(1)).await;

    let accepted = accepted.lock().unwrap();
    let items = accepted[0]["items"].as_array().unwrap();
    let channels: Vec<_> = items.iter().map(|item| item["channel"].as_str().unwrap()).collect();
    assert_eq!(channels, [format!("app-job-{ID}"), "app-jobs-plant-7".to_owned()]);
    let content = items[0]["formats"]["ws-message"]["content"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(content).unwrap(), json!({"jobId": ID, "state": "ACCEPTED"}));
}

#[tokio::test]
async fn the_hints_at_many_jobs_are_several_publications_of_limited_size() {
    let (url, accepted) = proxy("Bearer right");
    let secret = json!({"GRIP_URL": format!("{url}/?key=right")}).to_string();
    start(vec![secret], Instant::now()).await.hint(&changes(250)).await;

    let accepted = accepted.lock().unwrap();
    let items = |one: &Value| one["items"].as_array().unwrap().len();
    assert_eq!(accepted.iter().map(items).collect::<Vec<_>>(), [200, 200, 100]);
    assert!(accepted.iter().all(|one| one.to_string().len() < 65_536));
}

#[tokio::test]
async fn after_a_failure_the_other_publications_are_not_tried() {
    let tries = Arc::new(Mutex::new(0));
    let seen = Arc::clone(&tries);
    let broken = LoopbackServer::start(move |_| {
        *seen.lock().unwrap() += 1;
        Response::builder().status(StatusCode::BAD_GATEWAY).body(Bytes::new()).unwrap()
    });

    let secret = json!({"GRIP_URL": broken.url()}).to_string();
    start(vec![secret], Instant::now()).await.hint(&changes(250)).await;
    assert_eq!(*tries.lock().unwrap(), 1);
}

#[tokio::test]
async fn a_rotated_key_is_read_again() {
    let (url, accepted) = proxy("Bearer right");
    let secrets = || ["old", "right"].map(|key| json!({"GRIP_URL": format!("{url}/?key={key}")}).to_string());

    // A secret that was read a moment ago is not read again.
    start(secrets().to_vec(), Instant::now()).await.hint(&changes(1)).await;
    assert_eq!(accepted.lock().unwrap().len(), 0);
    let long_ago = Instant::now().checked_sub(BETWEEN_READS).unwrap();
    start(secrets().to_vec(), long_ago).await.hint(&changes(1)).await;
    assert_eq!(accepted.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn without_a_proxy_there_are_no_hints() {
    let none = |_: &Environment<'_>| Ok(Secrets(RefCell::default()));
    let hints = Hints::start(|| Environment::of(&[]), none, Instant::now()).await.unwrap();
    hints.hint(&changes(1)).await;
}
