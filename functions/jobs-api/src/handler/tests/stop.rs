//! Stopping jobs.

use postern_jobs::{End, Rank};

use super::*;

#[tokio::test]
async fn stopping_a_job_stops_its_execution_and_tells_the_worker_once() {
    let services = Services::default();
    let api = api(&services).await;
    let id = job(&api, "tenant1", "one", |new| {
        new.deadline = now().saturating_add(jiff::SignedDuration::from_secs(90)).ok();
    })
    .await;
    let stop = format!("/jobs/{id}/stop");

    assert_eq!(post(&stop).body(&json!({"reason": "no longer needed"})).to(&api).await.status, 202);
    let message =
        format!(r#"publish tenant1/to/worker/cancel {{"JobId":"{id}","Reason":"no longer needed"}} 90"#);
    let stopped = "stop arn:aws:states:eu-west-1:1:execution:on-prem-job:one no longer needed".to_owned();
    assert_eq!(*services.calls.borrow(), [stopped, message]);

    let end = End::new(State::Cancelled, Rank::ExecutionEnded);
    api.jobs.ended(&tenant("tenant1"), &id, &end, now()).await.unwrap();
    assert_eq!(post(&stop).body(&json!({})).to(&api).await.status, 202);
    assert_eq!(services.calls.borrow().len(), 2, "a repeated request changes nothing");
}

#[tokio::test]
async fn a_job_that_has_ended_cannot_be_stopped() {
    let services = Services::default();
    let api = api(&services).await;
    let id = job(&api, "tenant1", "one", |_| {}).await;
    let end = End::new(State::Succeeded, Rank::Answered);
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
