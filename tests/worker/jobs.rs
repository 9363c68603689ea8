//! The worker's answers to jobs after their deadline and to messages that are not valid jobs.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::scripted_broker::ScriptedBroker;
use crate::site::{Site, logged};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_deadline_has_passed_does_not_run() {
    let site = Site::new("late");
    let broker = ScriptedBroker::start(&site).await;
    let _worker = site.worker("worker.log", &[]);
    let mut connection = broker.accept_subscribed().await;

    let deadline = Timestamp::now() - SignedDuration::from_secs(60);
    for number in 1..21 {
        let job = json!({"Input": {"a": 1, "b": 2}, "TaskToken": format!("T{number}"), "Deadline": deadline});
        connection.publish(number, &job.to_string()).await;
    }
    connection.serve_until(|log| log.published.len() == 20).await;

    for (_, answer) in &connection.log.published {
        assert_eq!(answer["Error"], "Worker.DeadlineExceeded", "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_report_of_an_invalid_job_fits_the_brokers_largest_packet() {
    let site = Site::new("report");
    let mut broker = ScriptedBroker::start(&site).await;
    if let Some(properties) = &mut broker.connack.properties {
        properties.max_packet_size = Some(4_096);
    }
    let worker = site.worker("worker.log", &[]);
    let mut connection = broker.accept_subscribed().await;

    connection.publish(1, &"not a job ".repeat(1_000)).await;
    connection.serve_until(|log| log.published.len() == 1).await;

    let report = &connection.log.published[0].1;
    assert_eq!((&report["TaskToken"], &report["Bytes"]), (&Value::Null, &json!(10_000)));
    assert!(report.to_string().len() <= 4_096);
    logged(&worker, "not a job").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_with_a_duplicate_field_fails_its_task() {
    let site = Site::new("doubled");
    let broker = ScriptedBroker::start(&site).await;
    let _worker = site.worker("worker.log", &[]);
    let mut connection = broker.accept_subscribed().await;

    connection.publish(1, r#"{"Input":1,"TaskToken":"T1","Input":2}"#).await;
    connection.serve_until(|log| log.published.len() == 1).await;

    let answer = &connection.log.published[0].1;
    assert_eq!((&answer["TaskToken"], &answer["Error"]), (&json!("T1"), &json!("Worker.InvalidJob")));
}
