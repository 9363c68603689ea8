use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Response, StatusCode};
use jiff::Timestamp;
use postern_jobs::{Jobs as _, MemoryJobs, NewJob};
use postern_testing::LoopbackServer;
use postern_types::JobId;
use serde_json::Value;

use super::*;

const ID: &str = "ba7816bf8f01cfea414140de5dae2223";

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

async fn job() -> (Tenant, JobItem) {
    let (tenant, id) = (Tenant::parse("plant-7").unwrap(), JobId::parse(ID).unwrap());
    let jobs = MemoryJobs::default();
    jobs.dispatched(&NewJob::new(tenant.clone(), id.clone(), Timestamp::UNIX_EPOCH)).await.unwrap();
    let job = jobs.get(&tenant, &id).await.unwrap().unwrap();
    (tenant, job)
}

fn with_secret() -> Environment<'static> {
    Environment::of(&[("GRIP_SECRET", "arn:grip"), ("GRIP_PREFIX", "app-")])
}

#[tokio::test]
async fn a_hint_names_the_job_and_its_state_on_both_channels() {
    let (url, accepted) = proxy("Bearer right");
    let secret = json!({"GRIP_URL": format!("{url}/?key=right&iss=")}).to_string();
    let secret = secret.replace("key=right&iss=", "key=right");
    let hints = Hints::start(with_secret, |_| Ok(Secrets(RefCell::new(vec![secret])))).await.unwrap();
    let (tenant, job) = job().await;
    hints.hint(&tenant, &[job]).await;

    let accepted = accepted.lock().unwrap();
    let items = accepted[0]["items"].as_array().unwrap();
    let channels: Vec<_> = items.iter().map(|item| item["channel"].as_str().unwrap()).collect();
    assert_eq!(channels, [format!("app-job-{ID}"), "app-jobs-plant-7".to_owned()]);
    let content = items[0]["formats"]["ws-message"]["content"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(content).unwrap(), json!({"jobId": ID, "state": "DISPATCHED"}));
}

#[tokio::test]
async fn a_rotated_key_is_read_again() {
    let (url, accepted) = proxy("Bearer right");
    let secrets = ["old", "right"].map(|key| json!({"GRIP_URL": format!("{url}/?key={key}")}).to_string());
    let hints = Hints::start(with_secret, |_| Ok(Secrets(RefCell::new(secrets.to_vec())))).await.unwrap();
    let (tenant, job) = job().await;

    // A secret that was read a moment ago is not read again.
    hints.hint(&tenant, std::slice::from_ref(&job)).await;
    assert_eq!(accepted.lock().unwrap().len(), 0);
    hints.read_at.set(Instant::now().checked_sub(BETWEEN_READS).unwrap());
    hints.hint(&tenant, &[job]).await;
    assert_eq!(accepted.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn without_a_proxy_there_are_no_hints() {
    let hints = Hints::start(|| Environment::of(&[]), |_| Ok(Secrets(RefCell::default()))).await.unwrap();
    let (tenant, job) = job().await;
    hints.hint(&tenant, &[job]).await;
}

#[tokio::test]
async fn a_secret_that_is_no_object_is_an_error() {
    let store = |_: &Environment<'_>| Ok(Secrets(RefCell::new(vec!["hidden".into()])));
    let error = Hints::start(with_secret, store).await.map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("GRIP_SECRET") && !error.contains("hidden"), "{error}");
}
