//! Cancellation: from the end of an execution to the end of its jobs.

use std::time::Instant;

use postern_jobs::State;
use postern_local::Deployment;
use serde_json::json;

use crate::stack::{MACHINE, Stack, held, logged};

const TEMPLATE: &str = "template.yml";

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_execution_ends_the_handler_of_its_job() {
    let mut stack = Stack::with("cancel", held(Deployment::new("test"))).await;
    stack.test_worker().await;
    let input = json!({"until": stack.folder.join("never"), "ended": stack.folder.join("ended")});
    let execution = stack.execute(&input.to_string()).await;
    let id = stack.job_id(&execution, 1).await;
    stack.job(&id, "the job is accepted", |job| job.state == State::Accepted).await;

    let start = Instant::now();
    stack.stop(&execution).await;
    until_there(&stack.folder.join("ended")).await;
    println!("from StopExecution to the handler's end: {:?}", start.elapsed());

    let job = stack.job(&id, "the job is cancelled", |job| job.state == State::Cancelled).await;
    assert_eq!(job.error.as_deref(), Some("Worker.Cancelled"));
    assert!(job.cause.unwrap().starts_with("the execution was stopped"));
    // The worker's answer comes to a closed task.
    stack.logged(r#""status":"cancelled""#, 1).await;
    assert_eq!(stack.dead_letters().await, 0);
}

/// Waits until a file is there.
async fn until_there(file: &std::path::Path) {
    let end = Instant::now() + crate::stack::TIMEOUT;
    while !file.exists() {
        assert!(Instant::now() < end, "there is no {}", file.display());
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_was_cancelled_while_the_worker_was_down_never_runs() {
    let mut stack = Stack::with("cancel-down", held(Deployment::new("test"))).await;
    // The worker must have connected once, because the broker queues messages only for an existing session.
    stack.test_worker().await.stop().unwrap();
    let (never, began) = (stack.folder.join("never"), stack.folder.join("began"));
    let input = json!({"until": never, "began": began});
    let execution = stack.execute(&input.to_string()).await;
    let id = stack.job_id(&execution, 1).await;
    stack.job(&id, "the job is dispatched", |job| job.state == State::Dispatched).await;

    stack.stop(&execution).await;
    stack.job(&id, "the job is cancelled", |job| job.state == State::Cancelled).await;
    let worker = stack.test_worker().await;
    logged(worker, id.as_str()).await;
    stack.logged(r#""status":"cancelled""#, 1).await;
    assert!(!began.exists(), "the handler has begun");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_for_a_closed_task_makes_a_lost_cancellation_good() {
    // EventBridge says nothing of the end of executions.
    let silent = held(Deployment::new("test")).edit(
        TEMPLATE,
        "          status: [ABORTED, FAILED, TIMED_OUT]",
        "          status: [PENDING_REDRIVE]",
    );
    let mut stack = Stack::with("cancel-lost", silent).await;
    stack.test_worker().await;
    let input = json!({"until": stack.folder.join("never"), "ended": stack.folder.join("ended")});
    let execution = stack.execute(&input.to_string()).await;
    let id = stack.job_id(&execution, 1).await;
    stack.job(&id, "the job is accepted", |job| job.state == State::Accepted).await;

    stack.stop(&execution).await;
    until_there(&stack.folder.join("ended")).await;
    let job = stack.job(&id, "the job has ended", |job| !job.state.is_open()).await;
    assert_eq!(job.cause.as_deref(), Some("the task had ended before the worker answered"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_ignores_the_cancellation_does_not_hide_it_from_the_operator() {
    let stubborn = held(Deployment::new("test")).edit(MACHINE, r#""Kind": "hold""#, r#""Kind": "stubborn""#);
    let mut stack = Stack::with("cancel-ignored", stubborn).await;
    stack.test_worker().await;
    let until = stack.folder.join("go");
    let execution = stack.execute(&json!({"until": until}).to_string()).await;
    let id = stack.job_id(&execution, 1).await;
    stack.job(&id, "the job is accepted", |job| job.state == State::Accepted).await;

    stack.stop(&execution).await;
    stack.job(&id, "the job is cancelled", |job| job.state == State::Cancelled).await;
    assert!(!until.exists(), "the handler still runs");
    std::fs::write(&until, "").unwrap();
    // Its late result changes nothing.
    stack.logged("the task had ended before", 1).await;
    let job = stack.job(&id, "the job", |_| true).await;
    assert_eq!(job.state, State::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_job_is_not_called_cancelled_although_its_execution_fails_with_it() {
    let mut stack = Stack::start("cancel-failed").await;
    stack.worker().await;
    let execution = stack.execute(r#"{"a":"fifteen","b":42}"#).await;
    let id = stack.job_id(&execution, 1).await;
    stack.end(&execution).await;

    stack.logged("the execution has ended", 1).await;
    let job = stack.job(&id, "the job has failed", |job| job.state == State::Failed).await;
    assert_eq!(job.error.as_deref(), Some("Add.NotANumber"));
}
