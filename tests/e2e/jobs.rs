//! Jobs from the state machine to the worker and back: success, failure, heartbeats, timeouts, duplicates and dead
//! letters.

use aws_sdk_sfn::types::HistoryEventType;
use postern_local::{Deployment, Finished};
use serde_json::{Value, json};

use crate::stack::{MACHINE, Stack, TIMEOUT, held, logged, logged_times};

/// The end of an execution that succeeded with `output`.
fn succeeded(output: &Value) -> Finished {
    Finished { status: "SUCCEEDED".into(), output: Some(output.to_string()), error: None, cause: None }
}

/// The output of an execution, which must have succeeded.
fn output_of(finished: Finished) -> Value {
    assert_eq!(finished.status, "SUCCEEDED", "{finished:?}");
    serde_json::from_str(&finished.output.unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_job_of_the_aws_sample_runs_on_the_worker_and_its_result_returns() {
    let mut stack = Stack::start("success").await;
    stack.worker().await;

    let execution = stack.execute(r#"{"a":15,"b":42}"#).await;
    let output = json!({"a": 15, "b": 42, "lambdaOutput": {"result": 57}});
    assert_eq!(stack.end(&execution).await, succeeded(&output));
    assert_eq!(stack.dead_letters().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handlers_failure_arrives_as_a_caught_error_with_its_name_and_cause() {
    let mut stack = Stack::start("failure").await;
    stack.worker().await;

    let execution = stack.execute(r#"{"a":"fifteen","b":42}"#).await;
    let finished = stack.end(&execution).await;
    assert_eq!(finished.status, "FAILED");
    assert_eq!(finished.error.as_deref(), Some("Add.NotANumber"));
    assert_eq!(finished.cause.as_deref(), Some("a must be a number, such as 15"));
    assert_eq!(failed_in(&stack, &execution).await, "Job Failed");
}

/// The name of the Fail state in which an execution ended.
async fn failed_in(stack: &Stack, execution: &str) -> String {
    let fail = HistoryEventType::FailStateEntered;
    let events = stack.executions.happened(execution, &fail, 1, TIMEOUT).await.unwrap();
    events[0].state_entered_event_details().unwrap().name().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_keep_a_job_alive_that_runs_longer_than_its_heartbeat_timeout() {
    let mut stack = Stack::with("heartbeat", held(Deployment::new("test"))).await;
    stack.test_worker().await;
    let until = stack.folder.join("go");

    let execution = stack.execute(&json!({"until": until}).to_string()).await;
    // The worker sends a heartbeat every three seconds. Four heartbeats exceed the heartbeat timeout of nine seconds.
    stack.logged(r#""status":"heartbeat""#, 4).await;

    std::fs::write(&until, "").unwrap();
    assert_eq!(output_of(stack.end(&execution).await)["lambdaOutput"]["result"]["until"], json!(until));
    assert_eq!(stack.tokens(&execution, 1).await.len(), 1, "the job ran in one attempt");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_workers_job_times_out_and_is_dispatched_again_with_a_new_token() {
    let mut stack = Stack::with("killed", held(Deployment::new("test"))).await;
    let until = stack.folder.join("go");
    let id = stack.test_worker().await.id();

    let execution = stack.execute(&json!({"until": until}).to_string()).await;
    logged(worker_with(&mut stack, id), r#""message":"job received""#).await;
    worker_with(&mut stack, id).kill();
    let timed_out = HistoryEventType::TaskTimedOut;
    let events = stack.executions.happened(&execution, &timed_out, 1, TIMEOUT).await.unwrap();
    assert_eq!(events[0].task_timed_out_event_details().unwrap().error(), Some("States.HeartbeatTimeout"));
    let tokens = stack.tokens(&execution, 2).await;
    assert_ne!(tokens[0], tokens[1]);

    std::fs::write(&until, "").unwrap();
    stack.test_worker().await;
    assert_eq!(output_of(stack.end(&execution).await)["lambdaOutput"]["result"]["until"], json!(until));
}

/// The worker with this process id.
fn worker_with(stack: &mut Stack, id: u32) -> &mut postern_local::Process {
    stack.workers_mut().iter_mut().find(|worker| worker.id() == id).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_result_counts_once_and_a_late_answer_is_ignored() {
    let stack = Stack::start("duplicates").await;

    let execution = stack.execute(r#"{"a":1,"b":2}"#).await;
    let token = stack.tokens(&execution, 1).await.remove(0);

    // The AWS sample's own message, twice.
    let result = json!({"result": 57, "TaskToken": token}).to_string();
    stack.publish(result.clone()).await;
    stack.publish(result).await;
    let output = json!({"a": 1, "b": 2, "lambdaOutput": {"result": 57}});
    assert_eq!(stack.end(&execution).await, succeeded(&output));
    stack.logged("the task had ended before", 1).await;

    stack.publish(json!({"result": "late", "TaskToken": token}).to_string()).await;
    stack.publish(json!({"TaskToken": token, "Status": "FAILED", "Error": "Late"}).to_string()).await;
    let logs = stack.logged("the task had ended before", 3).await;
    assert!(!logs.contains("errorType"), "the function must not fail:\n{logs}");
    assert_eq!(stack.end(&execution).await, succeeded(&output), "the output must not change");
    assert_eq!(stack.dead_letters().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_the_aws_samples_worker_fails_the_task_with_its_exception() {
    let stack = Stack::start("sample").await;

    let execution = stack.execute(r#"{"a":1,"b":2}"#).await;
    let token = stack.tokens(&execution, 1).await.remove(0);
    stack.publish(json!({"result": null, "TaskToken": token, "exception": "KeyError"}).to_string()).await;
    let finished = stack.end(&execution).await;
    assert_eq!((finished.status.as_str(), finished.error.as_deref()), ("FAILED", Some("KeyError")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_message_ends_in_the_dead_letter_queue_with_its_reason() {
    let stack = Stack::start("poison").await;
    stack.publish(r#"{"result": 57}"#).await;

    let dead_letter = stack.dead_letter().await;
    assert_eq!(dead_letter["responsePayload"]["errorType"], "TaskTokenDone.InvalidMessage", "{dead_letter}");
    assert_eq!(dead_letter["responsePayload"]["errorMessage"], "TaskToken is missing");
    assert_eq!(dead_letter["requestPayload"]["result"], 57);
    assert_eq!(dead_letter["requestPayload"]["tenant"], "tenant1");
    assert_eq!(dead_letter["requestContext"]["condition"], "RetriesExhausted");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_job_goes_from_the_worker_to_the_dead_letter_queue() {
    let mut stack = Stack::start("no-job").await;
    stack.worker().await;
    let iot = aws_sdk_iotdataplane::Client::new(&stack.emulator.sdk_config());
    let payload = aws_sdk_iotdataplane::primitives::Blob::new("not a job");
    iot.publish().topic("tenant1/to/worker").qos(1).payload(payload).send().await.unwrap();

    let dead_letter = stack.dead_letter().await;
    assert_eq!(dead_letter["requestPayload"]["Error"], "Worker.InvalidJob");
    assert_eq!(dead_letter["requestPayload"]["PayloadBase64"], "bm90IGEgam9i");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_that_is_too_large_is_refused_without_a_retry_and_caught() {
    let stack = Stack::start("too-large").await;

    let execution = stack.execute(&json!({"a": "x".repeat(150_000)}).to_string()).await;
    let finished = stack.end(&execution).await;
    assert_eq!(finished.error.as_deref(), Some("Dispatcher.PayloadTooLarge"), "{finished:?}");
    assert!(finished.cause.unwrap().contains("131072"));
    assert_eq!(failed_in(&stack, &execution).await, "Job Refused");
    assert_eq!(stack.tokens(&execution, 1).await.len(), 1, "the dispatcher was called once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_is_too_large_fails_the_task_by_name() {
    let twice = Deployment::new("test").edit(MACHINE, r#""Kind": "add""#, r#""Kind": "twice""#);
    let mut stack = Stack::with("large-result", twice).await;
    stack.test_worker().await;

    let execution = stack.execute(&json!({"a": "x".repeat(70_000)}).to_string()).await;
    let finished = stack.end(&execution).await;
    assert_eq!(finished.error.as_deref(), Some("Worker.ResultTooLarge"), "{finished:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_and_key_order_pass_through_the_functions_and_the_worker() {
    let echo = Deployment::new("test").edit(MACHINE, r#""Kind": "add""#, r#""Kind": "echo""#);
    let mut stack = Stack::with("verbatim", echo).await;
    stack.test_worker().await;
    let input = r#"{"z":12345678901234567890123,"a":{"y":1,"b":[true,null]}}"#;

    let execution = stack.execute(input).await;
    let output = stack.end(&execution).await.output.unwrap();
    assert!(output.contains(&format!(r#""lambdaOutput":{{"result":{input}}}"#)), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_dispatched_while_the_worker_is_down_runs_after_its_restart() {
    let mut stack = Stack::start("down").await;
    // The worker must have connected once, because the broker queues jobs only for an existing session.
    let status = stack.worker().await.stop().unwrap();
    assert!(status.success(), "the worker must exit with 0 after a SIGTERM: {status}");

    let execution = stack.execute(r#"{"a":15,"b":42}"#).await;
    let submitted = HistoryEventType::TaskSubmitted;
    stack.executions.happened(&execution, &submitted, 1, TIMEOUT).await.unwrap();
    stack.worker().await;
    assert_eq!(output_of(stack.end(&execution).await)["lambdaOutput"]["result"], 57);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_jobs_at_once_each_get_their_own_result() {
    let mut stack = Stack::start("many").await;
    stack.worker().await;
    let mut executions = Vec::new();
    for a in 0..20 {
        executions.push((a, stack.execute(&json!({"a": a, "b": 100}).to_string()).await));
    }

    for (a, execution) in executions {
        assert_eq!(output_of(stack.end(&execution).await)["lambdaOutput"]["result"], a + 100);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_log_contains_a_task_token() {
    let mut stack = Stack::start("tokens").await;
    let program = stack.project.program("postern-worker");
    let worker = stack.worker_of(program, &["--log-level", "debug"]).await.id();
    let mut tokens = Vec::new();
    for input in [r#"{"a":15,"b":42}"#, r#"{"a":"x","b":42}"#] {
        let execution = stack.execute(input).await;
        stack.end(&execution).await;
        tokens.extend(stack.tokens(&execution, 1).await);
    }

    // An answer to a task that has ended, and one with a forged token.
    stack.publish(json!({"result": 1, "TaskToken": tokens[0]}).to_string()).await;
    let forged = format!("forged-{}", tokens[0]);
    stack.publish(json!({"result": 1, "TaskToken": forged}).to_string()).await;
    let functions = stack.logged("the task had ended before", 1).await;
    stack.dead_letter().await;

    let worker = worker_with(&mut stack, worker);
    logged_times(worker, "answer delivered", 2).await;
    let worker = worker.logs();
    let emulator = stack.emulator.process().logs();
    assert!(worker.contains("job received") && functions.contains("job dispatched"), "the logs lack the job");

    for (log, name) in [(&worker, "worker"), (&functions, "functions"), (&emulator, "emulator")] {
        for token in &tokens {
            assert!(!log.contains(token.as_str()), "the log of the {name} contains a task token");
        }
    }
}
