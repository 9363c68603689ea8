//! Slots, heartbeats, joined attempts, stuck handlers, and what stays with the broker.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc as blocking;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::bench::{Bench, Broker, Do, echo, our_job, work};
use super::*;
use crate::TaskFailure;
use crate::handler::Policy;
use crate::health::{Counter, Problem};
use tokio::runtime::Handle;

/// A handler that waits until the test notifies it, and counts its runs.
fn gated(runs: &Arc<AtomicUsize>, go: &Arc<Notify>) -> Registry {
    let (runs, go) = (Arc::clone(runs), Arc::clone(go));
    work(move |_| {
        let (runs, go) = (Arc::clone(&runs), Arc::clone(&go));
        async move {
            let run = runs.fetch_add(1, Ordering::SeqCst) + 1;
            go.notified().await;
            Ok(json!(run))
        }
    })
}

fn in_seconds(seconds: i64) -> String {
    (Timestamp::now() + SignedDuration::from_secs(seconds)).to_string()
}

#[tokio::test(start_paused = true)]
async fn accepted_is_sent_after_a_second_and_heartbeats_while_a_job_waits_for_a_slot() {
    let (runs, go) = (Arc::default(), Arc::default());
    let bench = Bench::start(gated(&runs, &go), 1);
    bench.send(1, &our_job("running", r#","HeartbeatSeconds":9"#));
    bench.acknowledged(1).await;
    bench.send(2, &our_job("waiting", r#","HeartbeatSeconds":9"#));

    bench.answers("ACCEPTED", 2).await;
    let beats = bench.answers("HEARTBEAT", 6).await;
    let of = |token: &str| beats.iter().filter(|beat| beat["TaskToken"] == token).count();
    assert_eq!((of("running"), of("waiting")), (3, 3));
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn attempts_with_one_key_share_a_run_and_each_is_answered_under_its_own_token() {
    let (runs, go) = (Arc::default(), Arc::default());
    let bench = Bench::start(gated(&runs, &go), 4);
    for (number, token) in [(1, "first"), (2, "second"), (3, "third")] {
        bench.send(number, &our_job(token, r#","IdempotencyKey":"k""#));
    }
    bench.send(4, &our_job("other", r#","IdempotencyKey":"other""#));
    bench.acknowledged(4).await;
    while runs.load(Ordering::SeqCst) < 2 {
        tokio::task::yield_now().await;
    }
    go.notify_waiters();

    let answers = bench.answers("SUCCEEDED", 4).await;
    let of = |token: &str| answers.iter().find(|answer| answer["TaskToken"] == token).unwrap();
    assert_eq!(of("first")["result"], of("second")["result"]);
    assert_eq!(of("first")["result"], of("third")["result"]);
    assert_ne!(of("first")["result"], of("other")["result"]);
    assert_eq!((runs.load(Ordering::SeqCst), bench.health.count(Counter::Joined)), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_key_of_another_kind_is_another_run() {
    let registry = echo().on("other", Do(Policy::Once, async |_| Ok(json!("other"))));
    let bench = Bench::start(registry, 1);
    bench.send(1, &our_job("a", r#","IdempotencyKey":"k""#));
    bench.send(2, &our_job("b", r#","IdempotencyKey":"k","Kind":"other""#));

    let answers = bench.answers("SUCCEEDED", 2).await;
    assert_ne!(answers[0]["result"], answers[1]["result"]);
}

#[tokio::test(start_paused = true)]
async fn a_run_goes_on_until_the_last_deadline_of_its_attempts() {
    let (runs, go) = (Arc::default(), Arc::default());
    let bench = Bench::start(gated(&runs, &go), 1);
    for (number, token, seconds) in [(1, "short", 100), (2, "long", 100_000)] {
        let deadline = in_seconds(seconds);
        bench.send(number, &our_job(token, &format!(r#","IdempotencyKey":"k","Deadline":"{deadline}""#)));
    }

    assert_eq!(bench.answers("FAILED", 1).await[0]["TaskToken"], "short");
    go.notify_one();
    let answer = &bench.answers("SUCCEEDED", 1).await[0];
    assert_eq!((&answer["TaskToken"], &answer["result"]), (&json!("long"), &json!(1)));
}

/// A handler that blocks its thread until the test releases it.
pub(super) fn blocked() -> (Registry, Blocked) {
    let (began, started) = mpsc::unbounded_channel();
    let (release, wait) = blocking::channel();
    let wait = Arc::new(Mutex::new(wait));
    let handler = work(move |_| {
        let (wait, began) = (Arc::clone(&wait), began.clone());
        async move {
            let _ = began.send(());
            wait.lock().unwrap().recv().map_err(|error| TaskFailure::new("Test.Ended", error.to_string()))?;
            Ok(json!("late"))
        }
    });
    (handler, Blocked { started, release })
}

pub(super) struct Blocked {
    pub(super) started: mpsc::UnboundedReceiver<()>,
    pub(super) release: blocking::Sender<()>,
}

/// Stops the test's clock, which otherwise runs ahead while the test waits for another thread.
pub(super) struct StoppedClock {
    _running: blocking::Sender<()>,
}

impl StoppedClock {
    pub(super) fn new() -> Self {
        let (running, ended) = blocking::channel::<()>();
        // The clock of a test does not advance while a blocking task runs.
        tokio::task::spawn_blocking(move || ended.recv());
        Self { _running: running }
    }
}

pub(super) struct Threads(Option<tokio::runtime::Runtime>);

impl Threads {
    pub(super) fn new() -> Self {
        Self(Some(tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap()))
    }

    pub(super) fn handle(&self) -> Handle {
        self.0.as_ref().unwrap().handle().clone()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.0.take().unwrap().shutdown_background();
    }
}

#[tokio::test(start_paused = true)]
async fn a_blocked_handler_keeps_its_slot_and_sends_no_heartbeats_after_the_deadline() {
    let (threads, directory) = (Threads::new(), tempfile::tempdir().unwrap());
    let (handler, mut blocked) = blocked();
    let bench = Bench::open(directory.path(), Broker::default(), handler, 1, threads.handle());
    let deadline = in_seconds(100);
    let clock = StoppedClock::new();
    bench.send(1, &our_job("stuck", &format!(r#","HeartbeatSeconds":30,"Deadline":"{deadline}""#)));
    blocked.started.recv().await.unwrap();
    drop(clock);
    assert_eq!(bench.answers("FAILED", 1).await[0]["Error"], "Worker.DeadlineExceeded");
    assert_eq!(bench.health.problems(), [Problem::AllSlotsStuck(1)]);

    let beats = bench.answers("HEARTBEAT", 0).await.len();
    bench.send(2, &our_job("next", r#","HeartbeatSeconds":30"#));
    bench.answers("HEARTBEAT", beats + 1).await;
    let published = bench.broker.0.published.borrow().clone();
    let last = published.iter().rfind(|message| message["Status"] == "HEARTBEAT").unwrap();
    assert_eq!(last["TaskToken"], "next", "the job that waits for the slot is alive");
    assert_eq!(bench.health.count(Counter::Started), 1, "the slot is not free");

    let _clock = StoppedClock::new();
    blocked.release.send(()).unwrap();
    blocked.release.send(()).unwrap();
    assert_eq!(bench.answers("SUCCEEDED", 1).await[0]["TaskToken"], "next");
    assert_eq!(bench.health.problems(), []);
}

#[tokio::test(start_paused = true)]
async fn a_retry_of_a_job_whose_handler_is_stuck_joins_it() {
    let (threads, directory) = (Threads::new(), tempfile::tempdir().unwrap());
    let (handler, mut blocked) = blocked();
    let bench = Bench::open(directory.path(), Broker::default(), handler, 2, threads.handle());
    let deadline = in_seconds(100);
    let clock = StoppedClock::new();
    bench.send(1, &our_job("first", &format!(r#","IdempotencyKey":"k","Deadline":"{deadline}""#)));
    blocked.started.recv().await.unwrap();
    drop(clock);
    bench.answers("FAILED", 1).await;

    bench.send(2, &our_job("retry", r#","IdempotencyKey":"k""#));
    bench.acknowledged(2).await;
    let _clock = StoppedClock::new();
    blocked.release.send(()).unwrap();
    let answer = &bench.answers("SUCCEEDED", 1).await[0];
    assert_eq!((&answer["TaskToken"], &answer["result"]), (&json!("retry"), &json!("late")));
    assert_eq!(bench.health.count(Counter::Started), 1);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_joins_a_stuck_run_counts_as_started_before_its_acknowledgement() {
    let (threads, directory) = (Threads::new(), tempfile::tempdir().unwrap());
    let (handler, mut blocked) = blocked();
    let bench = Bench::open(directory.path(), Broker::default(), handler, 2, threads.handle());
    let deadline = in_seconds(100);
    let clock = StoppedClock::new();
    bench.send(1, &our_job("first", &format!(r#","IdempotencyKey":"k","Deadline":"{deadline}""#)));
    blocked.started.recv().await.unwrap();
    drop(clock);
    bench.answers("FAILED", 1).await;

    // The journal holds nothing of the first attempt any more, but its handler still runs. A process that dies now
    // must not run the second attempt.
    bench.send(2, &our_job("retry", r#","IdempotencyKey":"k""#));
    bench.acknowledged(2).await;
    let journal = rusqlite::Connection::open(directory.path().join("journal.sqlite")).unwrap();
    let started = journal.query_row("SELECT started FROM jobs", [], |row| row.get(0));
    assert_eq!(started, Ok(1), "without another step of the worker's tasks");
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_slots_are_all_stuck_ends() {
    let (threads, directory) = (Threads::new(), tempfile::tempdir().unwrap());
    let (handler, mut blocked) = blocked();
    let bench = Bench::open(directory.path(), Broker::default(), handler, 1, threads.handle());
    let deadline = in_seconds(100);
    let clock = StoppedClock::new();
    bench.send(1, &our_job("stuck", &format!(r#","Deadline":"{deadline}""#)));
    blocked.started.recv().await.unwrap();
    drop(clock);

    assert_eq!(bench.engine.await.unwrap(), Stopped::AllSlotsStuck(1));
}

#[tokio::test(start_paused = true)]
async fn jobs_beyond_the_limit_stay_with_the_broker() {
    let (runs, go) = (Arc::default(), Arc::default());
    let bench = Bench::start(gated(&runs, &go), 1);
    for number in 0..60 {
        bench.send(number, &our_job(&number.to_string(), ""));
    }
    bench.acknowledged(50).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.acknowledged(0).await.len(), 50);

    go.notify_one();
    bench.answers("SUCCEEDED", 1).await;
    bench.acknowledged(51).await;
}

#[tokio::test(start_paused = true)]
async fn a_paused_worker_starts_nothing_and_takes_nothing() {
    let (runs, go) = (Arc::default(), Arc::default());
    let bench = Bench::start(gated(&runs, &go), 1);
    bench.send(1, &our_job("running", r#","HeartbeatSeconds":9"#));
    bench.acknowledged(1).await;
    bench.send(2, &our_job("held", r#","HeartbeatSeconds":9"#));
    bench.acknowledged(2).await;

    bench.pause.set(true).unwrap();
    sleep(Duration::from_secs(1)).await;
    bench.send(3, &our_job("away", ""));
    go.notify_one();
    bench.answers("SUCCEEDED", 1).await;
    let beats = bench.answers("HEARTBEAT", 0).await.len();
    bench.answers("HEARTBEAT", beats + 3).await;
    assert_eq!(bench.acknowledged(0).await, [1, 2], "the third job is with the broker");
    assert_eq!(runs.load(Ordering::SeqCst), 1, "the second job waits");

    bench.pause.set(false).unwrap();
    bench.acknowledged(3).await;
    go.notify_one();
    assert_eq!(bench.answers("SUCCEEDED", 2).await[1]["TaskToken"], Value::from("held"));
}
