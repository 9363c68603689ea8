//! Progress and logs of running jobs, and what the next attempt gets of them.

use serde_json::{Value, json};
use tokio::time::sleep;

use super::bench::{Bench, Broker, Do, PROGRESS, echo, id, our_job, work};
use super::recovery::process;
use super::*;
use crate::handler::{JobContext, Policy};

/// Works through 1,000 items, each in ten milliseconds, from where an earlier attempt was. The result is the first item.
fn thousand_items(policy: Policy) -> Registry {
    let handler = Do(policy, async |job: JobContext| {
        let first: u64 = job.resume().unwrap_or(0);
        for item in first..1_000 {
            sleep(Duration::from_millis(10)).await;
            job.progress(&(item + 1));
            job.log(format!("item {item}"));
        }
        Ok(json!(first))
    });
    Registry::new().on("work", handler)
}

fn connected(registry: Registry) -> Bench {
    let bench = Bench::start(registry, 4);
    bench.broker.0.controlled.send_replace(1);
    bench.health.set_connected(true);
    bench
}

#[tokio::test(start_paused = true)]
async fn a_thousand_reports_of_a_job_become_one_message_a_second() {
    let bench = connected(thousand_items(Policy::Once));
    bench.send(1, &our_job("abc", ""));
    bench.answers("SUCCEEDED", 1).await;
    let last = |message: &Value| message["Jobs"][0]["Data"] == 1_000;
    bench.views(PROGRESS, 1, last).await;

    let messages = bench.views(PROGRESS, 0, |_| true).await;
    assert!((9..=12).contains(&messages.len()), "{} messages in ten seconds", messages.len());
    let jobs = messages.iter().map(|message| &message["Jobs"][0]);
    assert!(jobs.clone().all(|job| job["JobId"] == id("abc").as_str()));
    let data: Vec<_> = jobs.clone().map(|job| job["Data"].as_u64().unwrap()).collect();
    assert!(data.is_sorted() && data[0] < 200, "{data:?}");
    let lines: Vec<_> = jobs.flat_map(|job| job["Log"].as_array().unwrap()).collect();
    assert_eq!((lines.len(), lines[999]), (1_000, &json!("item 999")));
}

#[tokio::test(start_paused = true)]
async fn the_reports_of_all_jobs_share_a_message() {
    let bench = connected(thousand_items(Policy::Once));
    for token in ["one", "two", "three"] {
        bench.send(1, &our_job(token, ""));
    }
    let message = bench.views(PROGRESS, 1, |message| message["Jobs"].as_array().unwrap().len() == 3).await;
    assert_eq!(message.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_shared_run_reports_is_said_of_every_attempt_that_shares_it() {
    let bench = connected(thousand_items(Policy::ExactlyOnce));
    let with_key = |token: &str| our_job(token, r#","IdempotencyKey":"k""#);
    bench.send(1, &with_key("first"));
    let of = |message: &Value, token: &str| {
        let jobs = message["Jobs"].as_array().unwrap();
        jobs.iter().find(|job| job["JobId"] == id(token).as_str()).cloned()
    };
    bench.views(PROGRESS, 1, |message| of(message, "first").is_some()).await;
    bench.send(2, &with_key("second"));

    let shared = bench.views(PROGRESS, 1, |message| of(message, "second").is_some()).await;
    let (first, second) = (of(&shared[0], "first").unwrap(), of(&shared[0], "second").unwrap());
    assert_eq!(first["Data"], second["Data"]);
    let last = |job: &Value| job["Log"].as_array().unwrap().last().cloned();
    assert_eq!(last(&first), last(&second));
    bench.answers("SUCCEEDED", 2).await;
    bench.views(PROGRESS, 1, |message| of(message, "second").is_some_and(|job| job["Data"] == 1_000)).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_job_reports_at_its_end_is_sent_before_the_worker_stops() {
    let bench = connected(work(async |job: JobContext| {
        sleep(Duration::from_secs(3)).await;
        job.progress("almost done");
        Ok(Value::Null)
    }));
    bench.send(1, &our_job("abc", ""));
    bench.answers("ACCEPTED", 1).await;
    let broker = bench.broker.clone();
    bench.stopped().await;
    let views = broker.0.views.borrow();
    assert!(views.iter().any(|(_, message)| message["Jobs"][0]["Message"] == "almost done"), "{views:?}");
}

#[tokio::test(start_paused = true)]
async fn a_worker_without_its_control_topics_sends_no_progress() {
    let bench = Bench::start(thousand_items(Policy::Once), 1);
    bench.send(1, &our_job("abc", ""));
    bench.answers("SUCCEEDED", 1).await;
    sleep(Duration::from_secs(10)).await;
    assert!(bench.broker.0.views.borrow().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_retry_begins_where_the_last_attempt_was() {
    let bench = Bench::start(thousand_items(Policy::Once), 1);
    bench.send(1, &our_job("retry", r#","Resume":700"#));
    assert_eq!(bench.answers("SUCCEEDED", 1).await[0]["result"], 700);
    bench.send(2, &our_job("another form", r#","Resume":{"row":700}"#));
    assert_eq!(bench.answers("SUCCEEDED", 2).await[1]["result"], 0);
}

#[test]
fn a_job_that_runs_again_after_a_crash_begins_where_it_was() {
    for policy in [Policy::Idempotent, Policy::ExactlyOnce] {
        let (directory, broker) = (tempfile::tempdir().unwrap(), Broker::default());
        process(directory.path(), &broker, thousand_items(policy), async |bench| {
            bench.send(1, &our_job("abc", r#","Resume":300"#));
            sleep(Duration::from_millis(4_005)).await;
        });
        process(directory.path(), &broker, thousand_items(policy), async |bench| {
            let first = bench.answers("SUCCEEDED", 1).await[0]["result"].as_u64().unwrap();
            assert!((550..=700).contains(&first), "{policy:?}: began at {first}");
        });
    }
}

#[test]
fn a_broker_or_a_disk_that_is_away_holds_up_no_handler() {
    let (directory, broker) = (tempfile::tempdir().unwrap(), Broker::default());
    process(directory.path(), &broker, echo(), async |bench| {
        bench.send(1, &our_job("warm-up", ""));
        bench.answers("SUCCEEDED", 1).await;
    });
    let chatty = Do(Policy::Idempotent, async |job: JobContext| {
        for item in 0..100 {
            sleep(Duration::from_millis(100)).await;
            job.progress(&"x".repeat(1_000 + item));
        }
        job.log("the end");
        Ok(json!("done"))
    });
    process(directory.path(), &broker, Registry::new().on("work", chatty), async |bench| {
        bench.broker.0.controlled.send_replace(1);
        bench.send(2, &our_job("abc", ""));
        bench.acknowledged(2).await;
        bench.journal.limit_pages(1).await;
        bench.broker.0.unreachable.store(true, std::sync::atomic::Ordering::SeqCst);
        sleep(Duration::from_secs(30)).await;

        bench.journal.limit_pages(1_000_000).await;
        bench.broker.0.unreachable.store(false, std::sync::atomic::Ordering::SeqCst);
        assert_eq!(bench.health.count(crate::health::Counter::Started), 1);
    });
    process(directory.path(), &broker, echo(), async |bench| {
        bench.answers("SUCCEEDED", 2).await;
    });
}
