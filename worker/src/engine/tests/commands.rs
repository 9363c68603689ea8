//! Commands to the worker, and the state that it publishes.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::bench::{Bench, PRESENCE, echo, id, our_job, work};
use super::*;
use crate::concurrency;
use crate::health::Counter;
use crate::link::ControlKind;

/// A handler that waits until it is notified, and the number of handlers that run.
fn gated() -> (Registry, Arc<AtomicUsize>, Arc<Notify>) {
    let (running, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let (count, gate) = (Arc::clone(&running), Arc::clone(&go));
    let registry = work(move |_| {
        let (running, go) = (Arc::clone(&count), Arc::clone(&gate));
        async move {
            running.fetch_add(1, Ordering::SeqCst);
            go.notified().await;
            running.fetch_sub(1, Ordering::SeqCst);
            Ok(Value::Null)
        }
    });
    (registry, running, go)
}

/// Waits until this many handlers run, and makes sure that no more start.
async fn runs(running: &AtomicUsize, count: usize) {
    while running.load(Ordering::SeqCst) != count {
        sleep(Duration::from_millis(10)).await;
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!(running.load(Ordering::SeqCst), count);
}

#[tokio::test(start_paused = true)]
async fn the_concurrency_follows_commands_and_is_remembered() {
    let (registry, running, go) = gated();
    let bench = Bench::start(registry, 2);
    let directory = bench.directory().to_owned();
    for number in 0..10 {
        bench.send(number, &our_job(&number.to_string(), ""));
    }
    runs(&running, 2).await;

    bench.control(20, ControlKind::Command, r#"{"Command":"CONCURRENCY","Concurrency":5}"#);
    runs(&running, 5).await;
    assert_eq!((bench.health.slots(), concurrency::remembered(&directory)), (5, Some(5)));

    bench.control(21, ControlKind::Command, r#"{"Command":"CONCURRENCY","Concurrency":1}"#);
    for left in [4, 3, 2, 1] {
        go.notify_one();
        runs(&running, left).await;
    }
    go.notify_one();
    bench.answers("SUCCEEDED", 5).await;
    runs(&running, 1).await;
    assert_eq!((bench.health.slots(), concurrency::remembered(&directory)), (1, Some(1)));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_command_is_acknowledged_and_ignored() {
    let bench = Bench::start(echo(), 1);
    let messages = ["not json", r#"{"Command":"DANCE"}"#, r#"{"Command":"CONCURRENCY","Concurrency":0}"#];
    for (number, message) in (1..).zip(messages) {
        bench.control(number, ControlKind::Command, message);
    }
    bench.acknowledged(3).await;
    assert_eq!((bench.health.slots(), bench.health.is_paused()), (1, false));
}

#[tokio::test(start_paused = true)]
async fn a_paused_worker_obeys_though_jobs_fill_what_the_broker_may_have_in_flight() {
    let bench = Bench::start(echo(), 1);
    bench.control(1, ControlKind::Command, r#"{"Command":"PAUSE"}"#);
    bench.acknowledged(1).await;
    for number in 0..90 {
        bench.send(number, &our_job(&number.to_string(), ""));
    }
    // Fifty stay unacknowledged. The others make room for what may be behind them.
    bench.acknowledged(41).await;
    bench.answers("ACCEPTED", 40).await;
    sleep(Duration::from_secs(10)).await;
    assert_eq!((bench.acknowledged(0).await.len(), bench.health.count(Counter::Started)), (41, 0));

    bench.control(100, ControlKind::Command, r#"{"Command":"RESUME"}"#);
    bench.answers("SUCCEEDED", 90).await;
}

#[tokio::test(start_paused = true)]
async fn the_state_is_published_on_each_connection_and_when_it_changes() {
    let (registry, _, go) = gated();
    let bench = Bench::start(registry, 1);
    bench.broker.0.controlled.send_replace(1);
    let first = &bench.views(PRESENCE, 1, |_| true).await[0];
    assert_eq!(first["At"].as_str().unwrap().len(), "2026-11-24T22:51:14.123Z".len());
    let mut first = first.clone();
    first["At"] = Value::Null;
    assert_eq!(
        first,
        json!({"Worker": "w", "State": "UP", "Version": "1.2.3", "Kinds": ["work"], "Group": null,
            "Concurrency": 1, "Running": 0, "Waiting": 0, "Jobs": [], "CertificateEnds": null,
            "StartedAt": "1970-01-01T00:00:00.000Z", "At": null})
    );

    bench.send(1, &our_job("running", ""));
    bench.acknowledged(1).await;
    bench.send(2, &our_job("waiting", ""));
    let held = |message: &Value| message["Running"] == 1 && message["Waiting"] == 1;
    let held = &bench.views(PRESENCE, 1, held).await[0];
    assert_eq!(held["Jobs"], json!([id("running").as_str(), id("waiting").as_str()]));

    bench.control(3, ControlKind::Command, r#"{"Command":"PAUSE"}"#);
    bench.views(PRESENCE, 1, |message| message["State"] == "PAUSED").await;
    bench.control(4, ControlKind::Command, r#"{"Command":"CONCURRENCY","Concurrency":7}"#);
    bench.views(PRESENCE, 1, |message| message["Concurrency"] == 7).await;

    let before = bench.views(PRESENCE, 0, |_| true).await.len();
    bench.broker.0.controlled.send_replace(2);
    bench.views(PRESENCE, before + 1, |_| true).await;
    go.notify_one();
}

#[tokio::test(start_paused = true)]
async fn the_state_is_published_once_a_minute_and_at_most_once_in_two_seconds() {
    let bench = Bench::start(echo(), 1);
    bench.broker.0.controlled.send_replace(1);
    let start = Instant::now();
    let quiet = bench.views(PRESENCE, 6, |_| true).await.len();
    let took = start.elapsed();
    assert!(took > Duration::from_secs(290) && took < Duration::from_secs(320), "{quiet} in {took:?}");

    let before = bench.views(PRESENCE, 0, |_| true).await.len();
    for step in 0..200 {
        bench.pause.set(step % 3 == 0).unwrap();
        sleep(Duration::from_millis(100)).await;
    }
    let changes = bench.views(PRESENCE, 0, |_| true).await.len() - before;
    assert!((1..=11).contains(&changes), "{changes} in 20 seconds");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_stops_says_that_it_drains_and_then_that_it_is_down() {
    let slow = work(async |_| {
        sleep(Duration::from_secs(9)).await;
        Ok(Value::Null)
    });
    let bench = Bench::start(slow, 1);
    bench.health.set_connected(true);
    bench.broker.0.controlled.send_replace(1);
    bench.send(1, &our_job("running", ""));
    bench.answers("ACCEPTED", 1).await;
    let broker = bench.broker.clone();
    bench.stopped().await;

    let states: Vec<_> =
        broker.0.views.borrow().iter().map(|(_, message)| message["State"].clone()).collect();
    assert_eq!(states.last(), Some(&json!("DOWN")), "{states:?}");
    assert!(states.contains(&json!("DRAINING")), "{states:?}");
}

#[tokio::test(start_paused = true)]
async fn a_worker_without_its_control_topics_publishes_no_state() {
    let bench = Bench::start(echo(), 1);
    bench.health.set_connected(true);
    sleep(Duration::from_mins(5)).await;
    let broker = bench.broker.clone();
    bench.stopped().await;
    assert!(broker.0.views.borrow().is_empty());
}
