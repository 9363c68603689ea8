//! Starting executions.

use super::*;

fn start(input: &Value) -> Sent {
    post("/jobs").body(&json!({"machine": "on-prem-job", "input": input}))
}

#[tokio::test]
async fn a_start_names_its_execution() {
    let services = Services::default();
    let api = api(&services).await;
    let answer = start(&json!({"a": 1})).to(&api).await;

    let (name, execution) =
        (answer.json["name"].as_str().unwrap(), answer.json["execution"].as_str().unwrap());
    assert_eq!(answer.status, 202);
    assert_eq!(execution, format!("arn:aws:states:eu-west-1:1:execution:on-prem-job:{name}"));
    let other = start(&json!({"a": 1})).to(&api).await;
    assert_ne!(other.json["execution"], execution, "without a key, each request starts an execution");
}

#[tokio::test]
async fn a_repeated_key_starts_once_and_another_input_is_a_conflict() {
    let services = Services::default();
    let api = api(&services).await;
    let keyed = |input: &Value| start(input).header("idempotency-key", "order 7");
    let first = keyed(&json!({"a": 1})).to(&api).await;
    let again = keyed(&json!({"a": 1})).to(&api).await;
    assert_eq!((again.status, &again.json), (202, &first.json));

    assert_eq!(keyed(&json!({"a": 2})).to(&api).await.problem(), "conflict");
    assert_eq!(services.calls.borrow().len(), 1);
    assert_eq!(
        keyed(&json!(1)).header("idempotency-key", &"k".repeat(257)).to(&api).await.problem(),
        "invalid-request"
    );
}

#[tokio::test]
async fn an_input_is_passed_on_word_for_word() {
    let services = Services::default();
    let api = api(&services).await;
    let body = r#"{"machine":"on-prem-job","input":{"b": 1.10, "a": 12345678901234567890}}"#;
    assert_eq!(post("/jobs").text("application/json", body).to(&api).await.status, 202);
    assert_eq!(services.calls.borrow()[0], r#"start {"b": 1.10, "a": 12345678901234567890}"#);
}

#[tokio::test]
async fn only_the_machines_of_the_callers_tenant_can_be_seen_and_started() {
    let services = Services::default();
    let api = api(&services).await;
    assert_eq!(get("/machines").to(&api).await.json, json!({"machines": [{"name": "on-prem-job"}]}));
    let other = request("GET", "/machines").by("tenant2", "operator").to(&api).await;
    assert_eq!(other.json, json!({"machines": []}));

    let sent = start(&json!(1)).by("tenant2", "operator");
    assert_eq!(sent.to(&api).await.problem(), "not-found");
    let sent = post("/jobs").body(&json!({"machine": "unknown", "input": 1}));
    assert_eq!(sent.to(&api).await.problem(), "not-found");
    assert!(services.calls.borrow().is_empty());
}
