//! Cancelled jobs: before they arrive, while they wait, while they run, and across a restart.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::bench::{Bench, Broker, Do, PRESENCE, echo, id, our_job, work};
use super::recovery::process;
use super::slots::{StoppedClock, Threads, blocked};
use super::*;
use crate::TaskFailure;
use crate::handler::{JobContext, Policy};
use crate::health::{Counter, Problem};
use crate::link::ControlKind;

/// Sends the cancellation of a job.
fn cancel(bench: &Bench, number: u32, token: &str) {
    let message = json!({"JobId": id(token).as_str(), "Reason": format!("{token} was stopped")});
    bench.control(number, ControlKind::Cancel, &message.to_string());
}

/// Waits for the one cancelled job's answer and checks that it is whole.
async fn cancelled(bench: &Bench, token: &str) {
    let answer = &bench.answers("CANCELLED", 1).await[0];
    assert_eq!(
        *answer,
        json!({"TaskToken": token, "JobId": id(token).as_str(), "Status": "CANCELLED", "result": null,
            "exception": "Worker.Cancelled", "Error": "Worker.Cancelled", "Cause": format!("{token} was stopped")})
    );
}

/// A handler that never ends.
fn endless() -> Registry {
    work(async |_| std::future::pending().await)
}

#[tokio::test(start_paused = true)]
async fn a_handler_is_told_that_its_job_is_cancelled_and_may_end_by_itself() {
    let polite = work(async |job: JobContext| {
        job.cancelled().await;
        Err(TaskFailure::new("Mine", "stopped half-way"))
    });
    let bench = Bench::start(polite, 1);
    bench.send(1, &our_job("abc", ""));
    bench.answers("ACCEPTED", 1).await;
    let start = Instant::now();
    cancel(&bench, 2, "abc");
    cancelled(&bench, "abc").await;

    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(bench.acknowledged(2).await, [1, 2]);
    assert_eq!((bench.health.count(Counter::Cancelled), bench.health.count(Counter::Failed)), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_ignores_its_cancellation_is_dropped_after_the_grace_and_its_slot_is_free() {
    let once_endless = Arc::new(AtomicUsize::new(0));
    let runs = Arc::clone(&once_endless);
    let bench = Bench::start(
        work(move |_| {
            let run = runs.fetch_add(1, Ordering::SeqCst);
            async move { if run == 0 { std::future::pending().await } else { Ok(json!("the next")) } }
        }),
        1,
    );
    bench.send(1, &our_job("abc", ""));
    bench.answers("ACCEPTED", 1).await;
    bench.send(2, &our_job("next", ""));
    let start = Instant::now();
    cancel(&bench, 3, "abc");
    cancelled(&bench, "abc").await;

    assert!(start.elapsed() >= STOP_GRACE && start.elapsed() < STOP_GRACE * 2, "{:?}", start.elapsed());
    assert_eq!(bench.answers("SUCCEEDED", 1).await[0]["TaskToken"], "next");
}

#[tokio::test(start_paused = true)]
async fn a_result_that_a_handler_returns_in_the_grace_counts() {
    let late = work(async |job: JobContext| {
        job.cancelled().await;
        Ok(json!("done after all"))
    });
    let bench = Bench::start(late, 1);
    bench.send(1, &our_job("abc", ""));
    bench.answers("ACCEPTED", 1).await;
    cancel(&bench, 2, "abc");
    assert_eq!(bench.answers("SUCCEEDED", 1).await[0]["result"], "done after all");
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_blocks_and_ignores_its_cancellation_keeps_its_slot_and_the_worker_says_so() {
    let (threads, directory) = (Threads::new(), tempfile::tempdir().unwrap());
    let (handler, mut blocked) = blocked();
    let bench = Bench::open(directory.path(), Broker::default(), handler, 1, threads.handle());
    let clock = StoppedClock::new();
    bench.send(1, &our_job("stuck", r#","HeartbeatSeconds":30"#));
    blocked.started.recv().await.unwrap();
    drop(clock);
    cancel(&bench, 2, "stuck");
    cancelled(&bench, "stuck").await;

    assert_eq!(bench.health.problems(), [Problem::AllSlotsStuck(1)]);
    bench.broker.0.controlled.send_replace(1);
    let presence = &bench.views(PRESENCE, 1, |_| true).await[0];
    assert_eq!((&presence["Running"], &presence["Jobs"]), (&json!(1), &json!([id("stuck").as_str()])));
    bench.send(3, &our_job("next", ""));
    bench.answers("ACCEPTED", 2).await;
    assert_eq!(bench.health.count(Counter::Started), 1, "the slot is not free");

    let _clock = StoppedClock::new();
    blocked.release.send(()).unwrap();
    blocked.release.send(()).unwrap();
    assert_eq!(bench.answers("SUCCEEDED", 1).await[0]["TaskToken"], "next");
    assert_eq!(bench.health.problems(), []);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_cancelled_while_it_waits_for_a_slot_never_starts() {
    let bench = Bench::start(endless(), 1);
    bench.send(1, &our_job("running", ""));
    bench.answers("ACCEPTED", 1).await;
    bench.send(2, &our_job("waiting", ""));
    bench.acknowledged(2).await;
    cancel(&bench, 3, "waiting");
    cancelled(&bench, "waiting").await;
    assert_eq!(bench.health.count(Counter::Started), 1);
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_cancellation_came_first_never_starts() {
    let bench = Bench::start(echo(), 1);
    cancel(&bench, 1, "abc");
    bench.acknowledged(1).await;
    bench.send(2, &our_job("abc", ""));
    cancelled(&bench, "abc").await;
    bench.send(3, &our_job("other", ""));
    bench.answers("SUCCEEDED", 1).await;
    assert_eq!(bench.health.count(Counter::Started), 1);
}

#[tokio::test(start_paused = true)]
async fn a_job_does_not_start_before_the_cancellations_that_the_broker_has_kept() {
    let bench = Bench::start(echo(), 1);
    bench.broker.0.unsettled.send_replace(true);
    bench.send(1, &our_job("abc", ""));
    bench.send(2, &our_job("other", ""));
    bench.answers("ACCEPTED", 2).await;
    cancel(&bench, 3, "abc");
    cancelled(&bench, "abc").await;
    bench.broker.0.unsettled.send_replace(false);
    bench.answers("SUCCEEDED", 1).await;

    bench.broker.0.unsettled.send_replace(true);
    bench.send(4, &our_job("offline", ""));
    bench.answers("SUCCEEDED", 2).await;
    assert_eq!(bench.health.count(Counter::Started), 2);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_attempt_leaves_the_run_to_the_others_that_share_it() {
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let bench = Bench::start(
        work(move |_| {
            let gate = Arc::clone(&gate);
            async move {
                gate.notified().await;
                Ok(json!(57))
            }
        }),
        1,
    );
    bench.send(1, &our_job("first", r#","IdempotencyKey":"k""#));
    bench.answers("ACCEPTED", 1).await;
    bench.send(2, &our_job("second", r#","IdempotencyKey":"k""#));
    bench.acknowledged(2).await;
    cancel(&bench, 3, "first");
    cancelled(&bench, "first").await;

    go.notify_one();
    let answer = &bench.answers("SUCCEEDED", 1).await[0];
    assert_eq!((&answer["TaskToken"], &answer["result"]), (&json!("second"), &json!(57)));
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_joins_a_run_which_is_being_cancelled_is_interrupted_and_not_cancelled() {
    let bench = Bench::start(endless(), 1);
    bench.send(1, &our_job("first", r#","IdempotencyKey":"k""#));
    bench.answers("ACCEPTED", 1).await;
    cancel(&bench, 2, "first");
    bench.acknowledged(2).await;
    bench.send(3, &our_job("retry", r#","IdempotencyKey":"k""#));

    cancelled(&bench, "first").await;
    let retry = &bench.answers("FAILED", 1).await[0];
    assert_eq!((&retry["TaskToken"], &retry["Error"]), (&json!("retry"), &json!("Worker.Interrupted")));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_no_cancellation_is_acknowledged_and_ignored() {
    let bench = Bench::start(echo(), 1);
    for (number, message) in [(1, "not json"), (2, r#"{"JobId":"../x"}"#), (3, r#"{"Reason":"none"}"#)] {
        bench.control(number, ControlKind::Cancel, message);
    }
    bench.acknowledged(3).await;
    bench.send(4, &our_job("abc", ""));
    bench.answers("SUCCEEDED", 1).await;
}

/// A process on the journal of `directory` that runs `registry`.
fn next_process(directory: &Path, broker: &Broker, registry: Registry, scenario: impl AsyncFnOnce(&Bench)) {
    process(directory, broker, registry, scenario);
}

#[test]
fn a_cancellation_is_kept_across_a_restart() {
    let (directory, broker) = (tempfile::tempdir().unwrap(), Broker::default());
    next_process(directory.path(), &broker, echo(), async |bench| {
        cancel(bench, 1, "abc");
        bench.acknowledged(1).await;
    });
    next_process(directory.path(), &broker, echo(), async |bench| {
        bench.send(2, &our_job("abc", ""));
        cancelled(bench, "abc").await;
        assert_eq!(bench.health.count(Counter::Started), 0);
    });
}

#[test]
fn a_job_that_was_being_cancelled_when_the_process_died_does_not_run_again() {
    for policy in [Policy::Once, Policy::Idempotent, Policy::ExactlyOnce] {
        let (directory, broker) = (tempfile::tempdir().unwrap(), Broker::default());
        let endless = || Registry::new().on("work", Do(policy, async |_| std::future::pending().await));
        next_process(directory.path(), &broker, endless(), async |bench| {
            bench.send(1, &our_job("abc", ""));
            bench.answers("ACCEPTED", 1).await;
            cancel(bench, 2, "abc");
            bench.acknowledged(2).await;
        });
        assert!(broker.0.published.borrow().iter().all(|message| message["Status"] != "CANCELLED"));

        next_process(directory.path(), &broker, endless(), async |bench| {
            cancelled(bench, "abc").await;
            assert_eq!(bench.health.count(Counter::Started), 0, "{policy:?}");
        });
    }
}

#[test]
fn a_cancellation_works_though_the_journal_cannot_be_written_and_is_acknowledged_when_it_can() {
    let (directory, broker) = (tempfile::tempdir().unwrap(), Broker::default());
    next_process(directory.path(), &broker, endless(), async |bench| {
        bench.send(1, &our_job("abc", ""));
        bench.answers("ACCEPTED", 1).await;
        bench.journal.limit_pages(1).await;
        for number in 0..300 {
            cancel(bench, 100, &format!("unknown {number}"));
            sleep(Duration::from_millis(1)).await;
        }
        while bench.health.problems().is_empty() {
            sleep(Duration::from_millis(10)).await;
        }
        let start = Instant::now();
        bench.control(101, ControlKind::Command, r#"{"Command":"PAUSE"}"#);
        while !bench.health.is_paused() {
            sleep(Duration::from_millis(10)).await;
        }
        assert!(start.elapsed() < Duration::from_secs(1), "a command does not wait for the journal");

        bench.journal.limit_pages(1_000_000).await;
        bench.acknowledged(302).await;
    });
}

#[test]
fn expired_cancellations_are_forgotten() {
    let (directory, broker) = (tempfile::tempdir().unwrap(), Broker::default());
    let rows = || {
        let journal = rusqlite::Connection::open(directory.path().join("journal.sqlite")).unwrap();
        journal.query_row("SELECT count(*) FROM cancels", [], |row| row.get::<_, i64>(0)).unwrap()
    };
    next_process(directory.path(), &broker, echo(), async |bench| {
        let message = json!({"JobId": id("abc").as_str()}).to_string();
        bench.control_for(1, ControlKind::Cancel, &message, Some(Duration::ZERO));
        cancel(bench, 2, "kept");
        bench.acknowledged(2).await;
    });
    assert_eq!(rows(), 2);
    next_process(directory.path(), &broker, echo(), async |bench| {
        bench.send(3, &our_job("abc", ""));
        bench.answers("SUCCEEDED", 1).await;
    });
    assert_eq!(rows(), 1);
}
