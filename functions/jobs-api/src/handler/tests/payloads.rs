//! Inputs and results from the history.

use super::*;
use crate::services::HistoryKind;

fn event(id: i64, previous: i64, kind: HistoryKind) -> HistoryEvent {
    HistoryEvent { id, previous, kind }
}

fn scheduled(token: &str, input: &str) -> HistoryKind {
    HistoryKind::Scheduled(format!(
        r#"{{"FunctionName":"f","Payload":{{"TaskToken":"{token}","Input":{input}}}}}"#
    ))
}

/// Two branches whose events alternate; the second page has the end of the job `one`.
fn services() -> Services {
    let history = vec![
        vec![
            event(1, 0, HistoryKind::Other),
            event(2, 1, HistoryKind::Scheduled("not JSON".into())),
            event(3, 1, scheduled("one", r#"{"a": 1.10}"#)),
            event(4, 1, scheduled("two", "2")),
            event(5, 4, HistoryKind::Other),
            event(6, 3, HistoryKind::Other),
            event(7, 5, HistoryKind::Failed),
        ],
        vec![
            event(8, 6, HistoryKind::Succeeded(r#"{"result": 1.10}"#.into())),
            event(9, 1, scheduled("three", r#""<b>""#)),
            event(10, 1, HistoryKind::Succeeded("0".into())),
        ],
    ];
    Services { history, ..Services::default() }
}

#[tokio::test]
async fn input_and_result_are_those_of_the_job_word_for_word() {
    let services = services();
    let api = api(&services).await;
    let id = job(&api, "tenant1", "one", |_| {}).await;
    let input = get(&format!("/jobs/{id}/input")).to(&api).await;
    assert_eq!((input.status, &*input.text), (200, r#"{"a": 1.10}"#));
    assert_eq!(input.headers["content-type"], "application/json");
    let result = get(&format!("/jobs/{id}/result")).to(&api).await;
    assert_eq!((result.status, &*result.text), (200, r#"{"result": 1.10}"#));
}

#[tokio::test]
async fn a_job_without_a_result_says_why() {
    let services = services();
    let api = api(&services).await;
    for (token, reason) in [("two", "failed"), ("three", "no result yet"), ("four", "does not contain")] {
        let id = job(&api, "tenant1", token, |_| {}).await;
        let answer = get(&format!("/jobs/{id}/result")).to(&api).await;
        assert_eq!(answer.problem(), "not-found");
        assert!(answer.json["detail"].as_str().unwrap().contains(reason), "{answer:?}");
    }
    let id = job(&api, "tenant1", "five", |new| new.execution = None).await;
    assert_eq!(get(&format!("/jobs/{id}/input")).to(&api).await.problem(), "not-found");
}

#[tokio::test]
async fn a_payload_above_the_limit_and_a_history_without_end_are_too_large() {
    let large = format!("\"{}\"", "x".repeat(1 << 20));
    let services =
        Services { history: vec![vec![event(1, 0, scheduled("one", &large))]], ..Services::default() };
    let api = api(&services).await;
    let id = job(&api, "tenant1", "one", |_| {}).await;
    assert_eq!(get(&format!("/jobs/{id}/input")).to(&api).await.problem(), "too-large");

    let endless =
        Services { history: vec![vec![event(1, 0, HistoryKind::Other)]; 100], ..Services::default() };
    let api = super::api(&endless).await;
    let id = job(&api, "tenant1", "one", |_| {}).await;
    assert_eq!(get(&format!("/jobs/{id}/input")).to(&api).await.problem(), "too-large");
}
