//! Several processes on one journal: a process ends at some moment, and the next one continues.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::time::sleep;

use super::bench::{Bench, Broker, Do, echo, our_job};
use super::*;
use crate::TaskFailure;
use crate::handler::{JobContext, Policy};
use crate::health::{Counter, Problem};
use crate::link::PublishError;
use tokio::runtime::Handle;

/// One process on the journal of `directory`. It dies at the end of the scenario, wherever its tasks are.
pub(super) fn process<T>(
    directory: &Path,
    broker: &Broker,
    registry: Registry,
    scenario: impl AsyncFnOnce(&Bench) -> T,
) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        *broker.0.journal.lock().unwrap() = Some(directory.join("journal.sqlite"));
        let bench = Bench::open(directory, broker.clone(), registry, 1, Handle::current());
        scenario(&bench).await
    })
}

/// A handler that never ends in its first run, and counts its runs.
fn hangs_once(policy: Policy, runs: &Arc<AtomicUsize>) -> Registry {
    let runs = Arc::clone(runs);
    let handler = Do(policy, move |_| {
        let run = runs.fetch_add(1, Ordering::SeqCst) + 1;
        async move {
            if run == 1 {
                std::future::pending::<()>().await;
            }
            Ok(json!(run))
        }
    });
    Registry::new().on("work", handler)
}

/// Kills a process while the handler runs, and returns the answer of the next process and the number of runs.
fn killed_while_running(policy: Policy) -> (Value, usize) {
    let (directory, broker, runs) = (tempfile::tempdir().unwrap(), Broker::default(), Arc::default());
    process(directory.path(), &broker, hangs_once(policy, &runs), async |bench| {
        bench.send(1, &our_job("abc", ""));
        bench.answers("ACCEPTED", 1).await;
    });
    assert_eq!(runs.load(Ordering::SeqCst), 1);

    let ended = |message: &Value| message["Status"] != "ACCEPTED";
    process(directory.path(), &broker, hangs_once(policy, &runs), async |bench| {
        let mut published = bench.broker.0.published.subscribe();
        published.wait_for(|all| all.iter().any(ended)).await.unwrap();
    });
    let answer = broker.0.published.borrow().iter().find(|message| ended(message)).unwrap().clone();
    (answer, runs.load(Ordering::SeqCst))
}

#[test]
fn a_job_that_was_running_fails_as_interrupted_if_it_must_not_run_twice() {
    let (answer, runs) = killed_while_running(Policy::Once);
    assert_eq!((&answer["Error"], runs), (&json!("Worker.Interrupted"), 1));
}

#[test]
fn a_job_that_was_running_runs_again_if_its_handler_allows_it() {
    for policy in [Policy::Idempotent, Policy::ExactlyOnce] {
        let (answer, runs) = killed_while_running(policy);
        assert_eq!((&answer["result"], runs), (&json!(2), 2), "{policy:?}");
    }
}

#[test]
fn a_job_that_was_waiting_runs_in_the_next_process() {
    let (directory, broker, runs) = (tempfile::tempdir().unwrap(), Broker::default(), Arc::default());
    process(directory.path(), &broker, hangs_once(Policy::Once, &runs), async |bench| {
        bench.send(1, &our_job("running", ""));
        bench.acknowledged(1).await;
        bench.send(2, &our_job("waiting", ""));
        bench.answers("ACCEPTED", 2).await;
    });

    process(directory.path(), &broker, hangs_once(Policy::Once, &runs), async |bench| {
        assert_eq!(bench.answers("FAILED", 1).await[0]["TaskToken"], "running");
        let answer = &bench.answers("SUCCEEDED", 1).await[0];
        assert_eq!((&answer["TaskToken"], &answer["result"]), (&json!("waiting"), &json!(2)));
    });
}

#[test]
fn an_attempt_that_shared_an_interrupted_run_is_interrupted_too() {
    let (directory, broker, runs) = (tempfile::tempdir().unwrap(), Broker::default(), Arc::default());
    let job = |token| our_job(token, r#","IdempotencyKey":"k""#);
    process(directory.path(), &broker, hangs_once(Policy::Once, &runs), async |bench| {
        bench.send(1, &job("first"));
        bench.answers("ACCEPTED", 1).await;
        bench.send(2, &job("second"));
        bench.acknowledged(2).await;
    });

    process(directory.path(), &broker, hangs_once(Policy::Once, &runs), async |bench| {
        let answers = bench.answers("FAILED", 2).await;
        assert!(answers.iter().all(|answer| answer["Error"] == "Worker.Interrupted"));
    });
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[test]
fn an_answer_that_was_not_sent_is_sent_by_the_next_process() {
    let (directory, broker) = (tempfile::tempdir().unwrap(), Broker::default());
    *broker.0.replies.lock().unwrap() = vec![Err(PublishError::Refused("NotAuthorized".into())); 3];
    process(directory.path(), &broker, echo(), async |bench| {
        bench.send(1, &our_job("abc", ""));
        bench.send(2, "not json");
        while bench.health.count(Counter::Refused) < 2 {
            sleep(Duration::from_millis(10)).await;
        }
    });
    broker.0.replies.lock().unwrap().clear();

    process(directory.path(), &broker, echo(), async |bench| {
        assert_eq!(bench.answers("SUCCEEDED", 1).await[0]["TaskToken"], "abc");
        assert_eq!(bench.answers("FAILED", 1).await[0]["Error"], "Worker.InvalidJob");
        assert_eq!(bench.health.count(Counter::Started), 0, "the handler does not run again");
    });
}

#[test]
fn a_job_that_is_delivered_again_after_a_restart_is_not_run_again() {
    let (directory, broker) = (tempfile::tempdir().unwrap(), Broker::default());
    process(directory.path(), &broker, echo(), async |bench| {
        bench.send(1, &our_job("abc", ""));
        bench.answers("SUCCEEDED", 1).await;
        while bench.health.count(Counter::Sent) < 1 {
            sleep(Duration::from_millis(10)).await;
        }
        sleep(Duration::from_millis(10)).await;
    });

    process(directory.path(), &broker, echo(), async |bench| {
        bench.send(2, &our_job("abc", ""));
        let answers = bench.answers("SUCCEEDED", 2).await;
        assert_eq!(answers[0], answers[1]);
        assert_eq!(bench.health.count(Counter::Started), 0);
    });
}

#[test]
fn a_retry_receives_the_remembered_result_of_an_exactly_once_handler() {
    let counted = |runs: &Arc<AtomicUsize>, policy| {
        let runs = Arc::clone(runs);
        Registry::new().on(
            "work",
            Do(policy, move |_| {
                let run = runs.fetch_add(1, Ordering::SeqCst) + 1;
                async move { Ok(json!(run)) }
            }),
        )
    };

    for (policy, last) in [(Policy::ExactlyOnce, 1), (Policy::Idempotent, 2), (Policy::Once, 2)] {
        let (directory, broker, runs) = (tempfile::tempdir().unwrap(), Broker::default(), Arc::default());
        let job = |token| our_job(token, r#","IdempotencyKey":"k""#);
        process(directory.path(), &broker, counted(&runs, policy), async |bench| {
            bench.send(1, &job("first"));
            bench.answers("SUCCEEDED", 1).await;
        });
        process(directory.path(), &broker, counted(&runs, policy), async |bench| {
            bench.send(2, &job("second"));
            let mut published = bench.broker.0.published.subscribe();
            let second = |all: &Vec<Value>| all.iter().any(|message| message["TaskToken"] == "second");
            published.wait_for(second).await.unwrap();
        });
        let published = broker.0.published.borrow();
        let second = published.iter().find(|message| message["TaskToken"] == "second").unwrap();
        assert_eq!(second["result"], last, "{policy:?}");
    }
}

#[test]
fn a_failure_of_an_exactly_once_handler_is_not_remembered() {
    let (directory, broker) = (tempfile::tempdir().unwrap(), Broker::default());
    let runs = AtomicUsize::new(0);
    let handler = Do(Policy::ExactlyOnce, move |_: JobContext| {
        let run = runs.fetch_add(1, Ordering::SeqCst);
        async move { if run == 0 { Err(TaskFailure::new("Db.Locked", "row 7")) } else { Ok(json!(57)) } }
    });
    process(directory.path(), &broker, Registry::new().on("work", handler), async |bench| {
        bench.send(1, &our_job("first", r#","IdempotencyKey":"k""#));
        bench.answers("FAILED", 1).await;
        bench.send(2, &our_job("second", r#","IdempotencyKey":"k""#));
        bench.answers("SUCCEEDED", 1).await;
    });
}

#[test]
fn a_full_disk_leaves_messages_with_the_broker_until_there_is_room() {
    let (directory, broker) = (tempfile::tempdir().unwrap(), Broker::default());
    process(directory.path(), &broker, echo(), async |bench| {
        bench.send(1, &our_job("before", ""));
        bench.answers("SUCCEEDED", 1).await;
        bench.journal.limit_pages(1).await;

        bench.send(2, &our_job("abc", &format!(r#","More":"{}""#, "x".repeat(100_000))));
        while bench.health.problems().is_empty() {
            sleep(Duration::from_millis(10)).await;
        }
        let problem = bench.health.problems().remove(0);
        assert!(matches!(&problem, Problem::Journal(reason) if reason.contains("full")), "{problem}");
        assert_eq!(bench.acknowledged(0).await, [1]);

        bench.journal.limit_pages(1_000_000).await;
        bench.acknowledged(2).await;
        bench.answers("SUCCEEDED", 2).await;
        assert_eq!(bench.health.problems(), []);
    });
}

#[test]
fn a_result_is_not_lost_while_the_disk_is_full() {
    let (directory, broker, go) =
        (tempfile::tempdir().unwrap(), Broker::default(), Arc::new(tokio::sync::Notify::new()));
    let gate = Arc::clone(&go);
    let handler = Do(Policy::Once, move |_: JobContext| {
        let gate = Arc::clone(&gate);
        async move {
            gate.notified().await;
            Ok(Value::from("x".repeat(100_000)))
        }
    });
    process(directory.path(), &broker, Registry::new().on("work", handler), async |bench| {
        bench.send(1, &our_job("abc", ""));
        bench.answers("ACCEPTED", 1).await;
        bench.journal.limit_pages(1).await;
        go.notify_one();
        while bench.health.problems().is_empty() {
            sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(bench.answers("SUCCEEDED", 0).await.len(), 0, "not published before it is durable");

        bench.journal.limit_pages(1_000_000).await;
        bench.answers("SUCCEEDED", 1).await;
    });
}

#[test]
fn recovered_jobs_take_room_and_the_broker_keeps_what_does_not_fit() {
    let (directory, broker) = (tempfile::tempdir().unwrap(), Broker::default());
    let endless =
        || Registry::new().on("work", Do(Policy::Idempotent, async |_| std::future::pending().await));
    process(directory.path(), &broker, endless(), async |bench| {
        for number in 1..=50 {
            bench.send(number, &our_job(&format!("job-{number}"), ""));
        }
        bench.acknowledged(50).await;
    });

    process(directory.path(), &broker, endless(), async |bench| {
        bench.send(51, &our_job("one-more", ""));
        sleep(Duration::from_mins(1)).await;
        let acknowledged = bench.broker.0.acknowledged.borrow().len();
        assert_eq!(acknowledged, 50, "the worker took more jobs than it may hold");
    });
}
