//! SIGTERM to a worker whose broker does not read.

use serde_json::json;

use crate::scripted_broker::ScriptedBroker;
use crate::site::{Site, logged, logged_times};

/// Jobs whose results fill the socket's buffers: 60 of 120 KB each.
const JOBS: u16 = 60;

#[tokio::test(flavor = "multi_thread")]
async fn a_sigterm_ends_the_process_in_time_though_the_broker_does_not_read() {
    let site = Site::new("stop-unread");
    let broker = ScriptedBroker::start(&site).await;
    let mut worker = site.worker("worker.log", &["--drain-seconds", "1"]);
    let mut connection = broker.accept_subscribed().await;
    for number in 1..=JOBS {
        let job = json!({"Input": "x".repeat(120_000), "TaskToken": format!("T{number}"), "Kind": "echo"});
        connection.publish(number, &job.to_string()).await;
    }

    // The connection stays open, and nothing reads it any more.
    logged_times(&worker, r#""message":"job succeeded""#, JOBS.into()).await;
    let (status, worker) = tokio::task::spawn_blocking(move || (worker.stop(), worker)).await.unwrap();

    // `stop` kills a process that takes longer than 30 seconds.
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
    logged(&worker, r#""message":"stopped""#).await;
    drop(connection);

    // The answers are in the journal: the next process sends every one of them.
    let _next = site.worker("next.log", &[]);
    let mut connection = broker.accept_subscribed().await;
    connection.serve_until(|log| tokens(log).len() == usize::from(JOBS)).await;
}

/// The task tokens of the answers.
fn tokens(log: &crate::scripted_broker::Log) -> std::collections::BTreeSet<&str> {
    log.published.iter().filter_map(|(_, answer)| answer["TaskToken"].as_str()).collect()
}
