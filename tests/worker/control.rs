//! Cancelled jobs, progress, commands and presence, on the wire: with mosquitto, which keeps messages for a worker that is
//! away, and with the scripted broker, which refuses what an older policy does not allow.

use std::fs;

use postern_types::{JobId, TaskToken};
use rumqttc::mqttbytes::v5::ConnectReturnCode;
use serde_json::{Value, json};

use crate::mosquitto::{CloudSide, Mosquitto};
use crate::scripted_broker::{ScriptedBroker, publish_on};
use crate::site::{Site, logged, logs};

const CANCEL: &str = "tenant1/to/worker/cancel";
const COMMAND: &str = "tenant1/to/worker/worker-1";
const PRESENCE: &str = "tenant1/workers/worker-1";
const SUBSCRIBED: &str = "control topics subscribed";

fn id(token: &str) -> JobId {
    TaskToken::parse(token).unwrap().job_id()
}

/// Waits for the end of a job. Notices, and answers that are sent again, may come before it.
async fn end(cloud: &mut CloudSide, token: &str) -> Value {
    loop {
        let answer = cloud.answer().await;
        if answer["TaskToken"] == token && answer["Status"] != "ACCEPTED" {
            return answer;
        }
    }
}

fn items(token: &str, more: &Value) -> Value {
    let mut job = json!({"Input": 1_000, "TaskToken": token, "JobId": id(token), "Kind": "items", "IdempotencyKey": "k"});
    job.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    job
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_killed_at_its_seven_hundredth_item_continues_there_in_the_next_attempt() {
    let site = Mosquitto::persistent("resume");
    let _broker = site.broker().await;
    let mut worker = site.worker("worker.log");
    logged(&worker, SUBSCRIBED).await;
    let mut cloud = site.cloud().await;
    cloud.follow("tenant1/progress").await;

    cloud.send(items("T1", &json!({}))).await;
    let item = |message: &Value| message["Jobs"][0]["Data"]["item"].as_u64();
    let last = cloud.view(|message| item(message) >= Some(700)).await;
    worker.kill();
    assert_eq!(last["Jobs"][0]["JobId"], json!(id("T1")));
    let reached = item(&last).unwrap();
    assert_eq!(last["Jobs"][0]["Percent"], json!(f64::from(u32::try_from(reached * 100 / 1_000).unwrap())));

    // The policy of the handler is `once`: the next process reports the interruption, and Step Functions retries.
    let _worker = site.worker("worker-2.log");
    assert_eq!(end(&mut cloud, "T1").await["Error"], "Worker.Interrupted");
    cloud.send(items("T2", &json!({"Resume": last["Jobs"][0]["Data"]}))).await;
    let answer = end(&mut cloud, "T2").await;
    assert_eq!((&answer["Status"], &answer["result"]), (&json!("SUCCEEDED"), &json!(reached)));
    assert!((700..=900).contains(&reached), "{reached}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_job_is_cancelled_and_its_handler_is_told() {
    let site = Mosquitto::new("cancel");
    let _broker = site.broker().await;
    let worker = site.worker("worker.log");
    logged(&worker, SUBSCRIBED).await;
    let mut cloud = site.cloud().await;
    cloud.send(items("T1", &json!({}))).await;
    assert_eq!(cloud.answer().await["Status"], "ACCEPTED");
    cloud.send_on(CANCEL, json!({"JobId": id("T1"), "Reason": "the execution was stopped"})).await;

    let answer = cloud.answer().await;
    assert_eq!((&answer["Status"], &answer["Error"]), (&json!("CANCELLED"), &json!("Worker.Cancelled")));
    assert_eq!(answer["Cause"], "the execution was stopped");
    logged(&worker, "job cancelled").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_cancelled_while_the_worker_is_away_never_runs() {
    let site = Mosquitto::persistent("cancel-away");
    let _broker = site.broker().await;
    let mut worker = site.worker("worker.log");
    logged(&worker, SUBSCRIBED).await;
    let mut cloud = site.cloud().await;
    let until = site.site.path("go");
    fs::write(&until, "").unwrap();
    worker.kill();

    // The broker keeps both messages, the job before its cancellation.
    let job = json!({"Input": {"until": until}, "TaskToken": "T1", "JobId": id("T1"), "Kind": "hold"});
    cloud.send(&job).await;
    cloud.send_on(CANCEL, json!({"JobId": id("T1"), "Reason": "stopped"})).await;
    let mut worker = site.worker("worker-2.log");
    assert_eq!(end(&mut cloud, "T1").await["Status"], "CANCELLED");
    assert!(!logs(&worker).contains("job succeeded"));

    // The journal keeps the cancellation of a job that comes later, across a kill.
    cloud.send_on(CANCEL, json!({"JobId": id("T2"), "Reason": "stopped"})).await;
    cloud.send(json!({"Input": {"a": 1, "b": 2}, "TaskToken": "T3", "JobId": id("T3")})).await;
    assert_eq!(end(&mut cloud, "T3").await["Status"], "SUCCEEDED");
    worker.kill();
    let worker = site.worker("worker-3.log");
    let job = json!({"Input": {"until": until}, "TaskToken": "T2", "JobId": id("T2"), "Kind": "hold"});
    cloud.send(job).await;
    assert_eq!(end(&mut cloud, "T2").await["Status"], "CANCELLED");
    assert!(!logs(&worker).contains("job succeeded"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_brokers_will_says_that_a_killed_worker_is_down_and_a_clean_stop_says_it_itself() {
    let site = Mosquitto::new("presence");
    let _broker = site.broker().await;
    let mut worker = site.worker("worker.log");
    let mut cloud = site.cloud().await;
    cloud.follow(PRESENCE).await;
    let up = cloud.view(|message| message["State"] == "UP").await;
    assert_eq!((&up["Worker"], &up["Concurrency"]), (&json!("worker-1"), &json!(8)));
    assert!(up["Kinds"].as_array().unwrap().contains(&json!("items")) && up["CertificateEnds"].is_string());

    worker.kill();
    let will = cloud.view(|message| message["State"] == "DOWN").await;
    assert_eq!(will["StartedAt"], up["StartedAt"]);

    let mut worker = site.worker("worker-2.log");
    cloud.view(|message| message["State"] == "UP").await;
    assert!(tokio::task::spawn_blocking(move || worker.stop()).await.unwrap().unwrap().success());
    cloud.view(|message| message["State"] == "DOWN").await;

    // Retained: whoever asks later learns it too.
    cloud.follow("tenant1/workers/+").await;
    assert_eq!(cloud.view(|_| true).await["State"], "DOWN");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_and_a_concurrency_by_command_are_remembered_across_a_kill() {
    let site = Mosquitto::persistent("commands");
    let _broker = site.broker().await;
    let mut worker = site.worker("worker.log");
    logged(&worker, SUBSCRIBED).await;
    let mut cloud = site.cloud().await;
    cloud.follow(PRESENCE).await;
    cloud.send_on(COMMAND, json!({"Command": "CONCURRENCY", "Concurrency": 3})).await;
    cloud.send_on(COMMAND, json!({"Command": "PAUSE"})).await;
    cloud.view(|message| message["State"] == "PAUSED" && message["Concurrency"] == 3).await;
    worker.kill();
    cloud.view(|message| message["State"] == "DOWN").await;

    let worker = site.worker("worker-2.log");
    cloud.view(|message| message["State"] == "PAUSED" && message["Concurrency"] == 3).await;
    cloud.send_on(COMMAND, json!({"Command": "RESUME"})).await;
    cloud.view(|message| message["State"] == "UP" && message["Concurrency"] == 3).await;
    cloud.send(json!({"Input": {"a": 1, "b": 2}, "TaskToken": "T1"})).await;
    assert_eq!(cloud.answer().await["result"], 3);
    logged(&worker, "the concurrency was set by a command").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_with_an_older_policy_runs_jobs_without_the_new_topics() {
    let site = Site::new("older-policy");
    let broker = ScriptedBroker::start(&site).await;
    let worker = site.worker("worker.log", &[]);
    let mut connection = broker.accept(false).await;
    connection.refused = Some("cancel");
    connection.serve_until(|log| log.filters.len() == 3).await;
    logged(&worker, "the worker goes on without cancellation, commands, progress and presence").await;

    connection.publish(1, &items("T1", &json!({"Input": 10, "Resume": {"item": 0}})).to_string()).await;
    connection.serve_until(|log| log.published.len() == 1).await;
    assert_eq!(connection.log.published[0].1["Status"], "SUCCEEDED");
    connection.still_works().await;
    assert!(connection.log.views.is_empty(), "{:?}", connection.log.views);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_will_is_refused_connects_without_it() {
    let site = Site::new("refused-will");
    let mut broker = ScriptedBroker::start(&site).await;
    let _worker = site.worker("worker.log", &[]);
    broker.connack.code = ConnectReturnCode::NotAuthorized;
    let (connection, will) = broker.accept_and_tell(false).await;
    assert_eq!(will.as_deref(), Some(PRESENCE), "the first attempt has a will");
    drop(connection);

    broker.connack.code = ConnectReturnCode::Success;
    let (mut connection, will) = broker.accept_and_tell(false).await;
    assert_eq!(will, None);
    connection.serve_until(|log| log.filters.len() == 3).await;
    connection.still_works().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn control_messages_pass_by_jobs_that_a_paused_worker_leaves_with_the_broker() {
    let site = Site::new("control-paused");
    let broker = ScriptedBroker::start(&site).await;
    let worker = site.worker("worker.log", &[]);
    let mut connection = broker.accept_subscribed().await;
    connection.send(publish_on(COMMAND, 1, r#"{"Command":"PAUSE"}"#)).await;
    connection.serve_until(|log| log.acknowledged == [1]).await;
    logged(&worker, "pause changed").await;
    for packet_id in 2..42 {
        let job = json!({"Input": {"a": packet_id, "b": 1}, "TaskToken": format!("T{packet_id}")});
        connection.publish(packet_id, &job.to_string()).await;
    }

    let message = json!({"JobId": id("T2"), "Reason": "stopped"}).to_string();
    connection.send(publish_on(CANCEL, 100, &message)).await;
    connection.serve_until(|log| log.acknowledged.contains(&100)).await;
    assert_eq!(connection.log.acknowledged, [1, 100], "the jobs are with the broker");
    connection.send(publish_on(COMMAND, 101, r#"{"Command":"RESUME"}"#)).await;
    connection.serve_until(|log| log.published.len() == 40).await;
    let cancelled: Vec<_> =
        connection.log.published.iter().filter(|(_, answer)| answer["Status"] == "CANCELLED").collect();
    assert_eq!((cancelled.len(), &cancelled[0].1["TaskToken"]), (1, &json!("T2")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_cannot_be_called_cancel() {
    let site = Site::new("called-cancel");
    let mut arguments = site.arguments("worker-1", "ca");
    let name = arguments.iter_mut().find(|argument| *argument == "worker-1").unwrap();
    *name = "cancel".into();
    let output = site.postern_worker(&arguments);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2));
    assert!(error.contains("no worker can be called cancel"), "{error}");

    let folder = site.path("identity").display().to_string();
    let enroll = ["enroll", "--client-id", "cancel", "--folder", &folder].map(str::to_owned);
    let output = site.postern_worker(&enroll);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), site.path("identity").exists()), (Some(1), false));
    assert!(error.contains("no worker can be called cancel"), "{error}");
}
