//! Approving and rejecting.

use postern_approval::{Ask, Decision};

use super::*;

/// A job that waits for a person, with the link that `approval` has put into its item.
async fn asked(api: &TestApi<'_>, seconds: i64) -> JobId {
    let ask = Ask { token: TaskToken::parse("the-token").unwrap(), question: "?".into(), tenant: None };
    let expires = now().saturating_add(jiff::SignedDuration::from_secs(seconds)).unwrap();
    let link = api.keys.as_ref().unwrap().query(&ask, Decision::Approve, expires);
    job(api, "tenant1", "the-token", |new| {
        new.kind = Some("approval".into());
        new.approval = Some(link);
    })
    .await
}

fn decide(id: &JobId, decision: &str, body: &Value) -> Sent {
    request("POST", &format!("/jobs/{id}/{decision}")).by("tenant1", "approver").body(body)
}

#[tokio::test]
async fn an_approval_answers_the_task_once() {
    let services = Services::default();
    let api = api(&services).await;
    let id = asked(&api, 60).await;
    assert_eq!(get(&format!("/jobs/{id}")).to(&api).await.json["approval"], true);

    assert_eq!(decide(&id, "approve", &json!({"comment": "go <on>"})).to(&api).await.status, 202);
    assert_eq!(
        *services.calls.borrow(),
        [r#"succeed the-token {"comment":"go <on>","decision":"APPROVED"}"#]
    );
    let after = get(&format!("/jobs/{id}")).to(&api).await.json;
    assert_eq!((&after["state"], &after["approval"]), (&json!("SUCCEEDED"), &json!(false)));

    assert_eq!(decide(&id, "approve", &json!({})).to(&api).await.status, 202);
    assert_eq!(decide(&id, "reject", &json!({})).to(&api).await.problem(), "conflict");
    assert_eq!(services.calls.borrow().len(), 1);
}

#[tokio::test]
async fn a_rejection_is_the_error_that_the_state_machine_catches() {
    let services = Services::default();
    let api = api(&services).await;
    let id = asked(&api, 60).await;
    assert_eq!(decide(&id, "reject", &json!({"comment": "too late"})).to(&api).await.status, 202);
    assert_eq!(*services.calls.borrow(), ["fail the-token Approval.Rejected too late"]);
    assert_eq!(decide(&id, "reject", &json!({})).to(&api).await.status, 202);
    assert_eq!(decide(&id, "approve", &json!({})).to(&api).await.problem(), "conflict");
}

#[tokio::test]
async fn an_expired_or_closed_question_is_a_conflict_and_no_answer_shows_the_token() {
    let services = Services { closed: true, ..Services::default() };
    let api = api(&services).await;
    let id = asked(&api, 0).await;
    let expired = decide(&id, "approve", &json!({})).to(&api).await;
    assert!(expired.problem() == "conflict" && services.calls.borrow().is_empty());

    let api = super::api(&services).await;
    let id = asked(&api, 60).await;
    let closed = decide(&id, "approve", &json!({})).to(&api).await;
    assert_eq!(closed.problem(), "conflict");
    assert!(!closed.text.contains("the-token") && !expired.text.contains("the-token"));
}

#[tokio::test]
async fn a_job_that_asks_nobody_cannot_be_approved() {
    let services = Services::default();
    let api = api(&services).await;
    let id = job(&api, "tenant1", "one", |_| {}).await;
    assert_eq!(decide(&id, "approve", &json!({})).to(&api).await.problem(), "conflict");
    let long = json!({"comment": "x".repeat(1_001)});
    let id = asked(&api, 60).await;
    assert_eq!(decide(&id, "approve", &long).to(&api).await.problem(), "invalid-request");
}
