//! The life of a job in one process. `recovery` is about several processes on one journal.

use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use postern_types::limits::IOT_PAYLOAD_BYTES;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::*;
use crate::TaskFailure;
use crate::handler::JobContext;
use crate::health::Counter;
use crate::link::PublishError;
use bench::{Bench, echo, id, our_job, work};

mod bench;
mod cancellation;
mod claims;
mod commands;
mod interleavings;
mod recovery;
mod reports;
mod slots;

#[tokio::test(start_paused = true)]
async fn a_job_is_acknowledged_and_answered() {
    let bench = Bench::start(echo(), 1);
    bench.send(7, &our_job("abc", ""));
    let answer = &bench.answers("SUCCEEDED", 1).await[0];

    assert_eq!(
        *answer,
        json!({"TaskToken": "abc", "JobId": id("abc").as_str(), "Status": "SUCCEEDED", "result": {"n": 1}})
    );
    assert_eq!(bench.acknowledged(1).await, [7]);
    assert_eq!(bench.published(), 1, "a job that ends within a second needs no ACCEPTED");
    assert_eq!(bench.stopped().await, Stopped::Requested);
}

#[tokio::test(start_paused = true)]
async fn the_samples_functions_are_sent_results_only() {
    let bench = Bench::start(echo(), 1);
    bench.send(1, r#"{"Input":{"a":15},"TaskToken":"abc"}"#);
    bench.answers("SUCCEEDED", 1).await;
    assert_eq!(bench.published(), 1, "ACCEPTED would close the sample's task");
}

#[tokio::test(start_paused = true)]
async fn the_acknowledgement_does_not_wait_for_the_job() {
    let bench = Bench::start(work(async |_| std::future::pending().await), 1);
    bench.send(1, &our_job("abc", ""));
    assert_eq!(bench.acknowledged(1).await, [1]);
    assert_eq!(bench.published(), 0, "not answered");
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_delivered_twice_runs_once() {
    let (runs, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let (counted, gate) = (Arc::clone(&runs), Arc::clone(&go));
    let bench = Bench::start(
        work(move |_| {
            let (runs, go) = (Arc::clone(&counted), Arc::clone(&gate));
            async move {
                runs.fetch_add(1, Ordering::SeqCst);
                go.notified().await;
                Ok(json!(57))
            }
        }),
        4,
    );
    bench.send(1, &our_job("abc", ""));
    bench.send(2, &our_job("abc", ""));
    bench.acknowledged(2).await;
    go.notify_one();
    bench.answers("SUCCEEDED", 1).await;
    bench.send(3, &our_job("abc", ""));
    let answers = bench.answers("SUCCEEDED", 2).await;

    assert_eq!(answers[0], answers[1], "the first answer, again");
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_not_a_job_is_reported_once_though_it_is_delivered_again() {
    let bench = Bench::start(echo(), 1);
    bench.send(1, "not json");
    bench.send(2, "not json");
    bench.answers("FAILED", 1).await;
    bench.send(3, "not json");
    bench.send(4, &our_job("abc", ""));
    bench.answers("SUCCEEDED", 1).await;

    assert_eq!(bench.acknowledged(4).await, [1, 2, 3, 4]);
    assert_eq!(bench.published(), 2, "one report and one answer");
}

#[tokio::test(start_paused = true)]
async fn heartbeats_go_out_while_the_handler_runs() {
    let slow = work(async |_| {
        sleep(Duration::from_secs(31)).await;
        Ok(Value::Null)
    });
    let bench = Bench::start(slow, 1);
    bench.send(1, &our_job("abc", r#","HeartbeatSeconds":9"#));
    bench.answers("SUCCEEDED", 1).await;

    assert_eq!(bench.answers("HEARTBEAT", 10).await.len(), 10, "one every three seconds");
}

#[tokio::test(start_paused = true)]
async fn a_failure_keeps_its_name_and_cause() {
    let bench = Bench::start(work(async |_| Err(TaskFailure::new("Db.Locked", "row 7"))), 1);
    bench.send(1, &our_job("abc", ""));
    let answer = &bench.answers("FAILED", 1).await[0];
    assert_eq!((&answer["Error"], &answer["Cause"]), (&json!("Db.Locked"), &json!("row 7")));
    assert_eq!((&answer["result"], &answer["exception"]), (&Value::Null, &json!("Db.Locked")));
}

/// The error of the answer that `registry` gives to `message`.
async fn error_of(registry: Registry, message: &str) -> String {
    let bench = Bench::start(registry, 1);
    bench.send(1, message);
    bench.answers("FAILED", 1).await[0]["Error"].as_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn every_failure_of_the_worker_has_a_name() {
    let big = || work(async |_| Ok(Value::from("x".repeat(IOT_PAYLOAD_BYTES))));
    let panicking =
        work(async |job: JobContext| if job.is_cancelled() { Ok(Value::Null) } else { panic!("on purpose") });

    assert_eq!(error_of(big(), r#"{"TaskToken":"abc","Input":1}"#).await, "Worker.ResultTooLarge");
    assert_eq!(
        error_of(big(), &our_job("abc", "")).await,
        "Worker.UploadFailed",
        "the cloud does not answer"
    );
    assert_eq!(error_of(panicking, &our_job("abc", "")).await, "Worker.HandlerPanicked");
    assert_eq!(error_of(echo(), &our_job("abc", r#","Kind":"other""#)).await, "Worker.UnknownKind");
    assert_eq!(error_of(echo(), r#"{"TaskToken":"abc"}"#).await, "Worker.InvalidJob");
    let typed = work(async |job: JobContext| job.input::<String>().map(Value::from));
    assert_eq!(error_of(typed, &our_job("abc", "")).await, "Worker.InvalidInput");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_names_no_task_is_reported_to_the_dead_letter_queue() {
    let bench = Bench::start(echo(), 1);
    bench.send(1, "not json");
    let answer = &bench.answers("FAILED", 1).await[0];

    assert_eq!(answer["TaskToken"], Value::Null);
    assert_eq!(answer["PayloadBase64"], BASE64.encode("not json"));
    assert!(answer["Cause"].as_str().unwrap().contains("not JSON"));
    bench.send(2, &"x".repeat(IOT_PAYLOAD_BYTES));
    assert_eq!(bench.answers("FAILED", 2).await[1]["Bytes"], IOT_PAYLOAD_BYTES);
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_published_until_the_broker_has_it() {
    let bench = Bench::start(echo(), 1);
    *bench.broker.0.replies.lock().unwrap() = vec![
        Err(PublishError::Refused("QuotaExceeded".into())),
        Err(PublishError::Refused("NotAuthorized".into())),
    ];
    bench.send(1, r#"{"Input":1,"TaskToken":"abc"}"#);
    bench.answers("SUCCEEDED", 1).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_the_broker_finds_too_large_becomes_a_failure() {
    let bench = Bench::start(echo(), 1);
    *bench.broker.0.replies.lock().unwrap() = vec![Err(PublishError::TooLarge { bytes: 900, most: 800 })];
    bench.send(1, r#"{"Input":1,"TaskToken":"abc"}"#);
    assert_eq!(bench.answers("FAILED", 1).await[0]["Error"], "Worker.ResultTooLarge");
}

#[tokio::test(start_paused = true)]
async fn no_more_handlers_run_than_there_are_slots() {
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&most);
    let bench = Bench::start(
        work(move |_| {
            let (running, most) = (Arc::clone(&running), Arc::clone(&seen));
            async move {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                sleep(Duration::from_secs(1)).await;
                running.fetch_sub(1, Ordering::SeqCst);
                Ok(Value::Null)
            }
        }),
        3,
    );

    for job in 0..10 {
        bench.send(job, &our_job(&job.to_string(), ""));
    }
    bench.answers("SUCCEEDED", 10).await;
    assert_eq!(most.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_the_drain_time_for_a_broker_that_cannot_be_reached() {
    let bench = Bench::start(echo(), 1);
    bench.broker.0.unreachable.store(true, Ordering::SeqCst);
    bench.send(1, &our_job("abc", ""));
    while bench.health.count(Counter::Succeeded) < 1 {
        sleep(Duration::from_millis(10)).await;
    }

    let start = Instant::now();
    assert_eq!(bench.stopped().await, Stopped::Requested);
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_running_jobs_end_and_gives_waiting_ones_back() {
    let slow = work(async |_| {
        sleep(Duration::from_secs(5)).await;
        Ok(Value::Null)
    });
    let bench = Bench::start(slow, 1);
    bench.send(1, &our_job("running", ""));
    bench.send(2, &our_job("waiting", ""));
    bench.answers("ACCEPTED", 2).await;
    let broker = bench.broker.clone();

    assert_eq!(bench.stopped().await, Stopped::Requested);
    let published = broker.0.published.borrow();
    let last = |token: &str| published.iter().rfind(|message| message["TaskToken"] == token).unwrap();
    assert_eq!(last("running")["Status"], "SUCCEEDED");
    assert_eq!(last("waiting")["Error"], "Worker.ShuttingDown");
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_does_not_end_in_the_drain_time_is_told_to_stop() {
    let stubborn = work(async |job: JobContext| {
        job.cancelled().await;
        Err(TaskFailure::new("Mine", "stopped half-way"))
    });
    let bench = Bench::start(stubborn, 1);
    bench.send(1, &our_job("abc", ""));
    bench.answers("ACCEPTED", 1).await;
    let broker = bench.broker.clone();
    bench.stopped().await;
    let published = broker.0.published.borrow();

    assert_eq!(published.last().unwrap()["Error"], "Worker.ShuttingDown");
}

#[tokio::test]
async fn a_job_that_nobody_waits_for_any_more_is_cut_off() {
    let never = || work(async |_| std::future::pending().await);
    let late = our_job("abc", r#","Deadline":"2020-01-01T00:00:00Z""#);
    assert_eq!(error_of(never(), &late).await, "Worker.DeadlineExceeded");
    let cancelled = work(async |job: JobContext| {
        job.cancelled().await;
        Ok(json!("in time after all"))
    });
    let bench = Bench::start(cancelled, 1);
    // A busy machine may start the job too late for a short deadline: then a longer one.
    for (token, millis) in [("short", 100), ("longer", 2_000), ("longest", 50_000)] {
        let deadline = Timestamp::now() + jiff::SignedDuration::from_millis(millis);
        bench.send(1, &our_job(token, &format!(r#","Deadline":"{deadline}""#)));
        let mut published = bench.broker.0.published.subscribe();
        let ended = |message: &Value| message["TaskToken"] == token && message["Status"] != "ACCEPTED";
        let published = published.wait_for(|all| all.iter().any(ended)).await.unwrap().clone();
        if published.iter().any(|message| message["result"] == "in time after all") {
            return;
        }
    }
    panic!("the handler was never told");
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_deadline_has_passed_is_not_started() {
    let bench = Bench::start(echo(), 1);
    for number in 0..20 {
        bench.send(number, &our_job(&number.to_string(), r#","Deadline":"2020-01-01T00:00:00Z""#));
    }
    let answers = bench.answers("FAILED", 20).await;

    assert!(answers.iter().all(|answer| answer["Error"] == "Worker.DeadlineExceeded"));
    assert_eq!(bench.health.count(Counter::Started), 0);
}

#[tokio::test(start_paused = true)]
async fn a_report_that_the_broker_finds_too_large_is_sent_with_less_of_the_payload() {
    let bench = Bench::start(echo(), 1);
    *bench.broker.0.replies.lock().unwrap() =
        vec![Err(PublishError::TooLarge { bytes: 130_000, most: 8_192 })];
    bench.send(1, &"x".repeat(100_000));

    let report = &bench.answers("FAILED", 1).await[0];
    assert_eq!((&report["Error"], &report["Bytes"]), (&json!("Worker.InvalidJob"), &json!(100_000)));
    assert_eq!(report["PayloadBase64"].as_str().unwrap().len(), 4_096);
}

#[tokio::test(start_paused = true)]
async fn a_handler_sees_where_its_job_comes_from() {
    let context = work(async |job: JobContext| {
        Ok(json!([job.execution(), job.state(), job.attempt(), job.idempotency_key(), job.deadline()]))
    });
    let bench = Bench::start(context, 1);
    let rest = r#","Execution":"arn:e","State":"S","Attempt":2,"IdempotencyKey":"k","Deadline":"2100-01-01T00:00:00Z""#;
    bench.send(1, &our_job("abc", rest));
    let result = bench.answers("SUCCEEDED", 1).await[0]["result"].clone();
    assert_eq!(result, json!(["arn:e", "S", 2, "k", "2100-01-01T00:00:00Z"]));

    bench.send(2, &our_job("def", ""));
    let result = bench.answers("SUCCEEDED", 2).await[1]["result"].clone();
    assert_eq!(result, json!([null, null, null, id("def").as_str(), null]), "the key is the job id");
}

#[tokio::test(start_paused = true)]
async fn a_link_that_ends_by_itself_is_not_a_clean_stop() {
    let bench = Bench::start(echo(), 1);
    drop(bench.incoming);
    assert_eq!(bench.engine.await.unwrap(), Stopped::LinkEnded);
}

#[tokio::test(start_paused = true)]
async fn a_refused_subscription_ends_the_worker() {
    let bench = Bench::start(echo(), 1);
    bench.incoming.try_send(Incoming::SubscriptionRefused("no".into())).unwrap();
    assert_eq!(bench.engine.await.unwrap(), Stopped::SubscriptionRefused("no".into()));
}
