//! Defects of the AWS sample's worker, as tests that `postern-worker` passes. `docs/compare-with-the-sample.md` lists
//! all twelve and the tests of the others.
//!
//! With `POSTERN_SAMPLE_WORKER`, a command line such as `venv/bin/python on-prem-worker/onPremWorker.py`, the tests on
//! mosquitto run that worker instead. The sample connects to port 443, so that only one of these tests can run at a
//! time: `--test-threads=1`.

use std::fs;

use postern_local::Process;
use rumqttc::mqttbytes::v5::Packet;
use serde_json::json;

use crate::mosquitto::{Mosquitto, job};
use crate::scripted_broker::{ScriptedBroker, within};
use crate::site::{Site, logged, logged_times, logs};

/// A worker under test on mosquitto: Postern's, or the sample's.
struct Subject {
    mosquitto: Mosquitto,
    /// The command line of the sample's worker.
    sample: Option<String>,
}

impl Subject {
    fn new(name: &str) -> Self {
        let mut mosquitto = Mosquitto::new(&format!("sample-{name}"));
        let sample = std::env::var("POSTERN_SAMPLE_WORKER").ok();

        if sample.is_some() {
            let path = mosquitto.site.path("mosquitto.conf");
            let config = fs::read_to_string(&path).unwrap();
            let listener = format!("listener {} ", mosquitto.site.port);
            // Started by root, mosquitto would become a user who may not listen at this port.
            let config = format!("user root\n{}", config.replace(&listener, "listener 443 "));
            fs::write(path, config).unwrap();
            mosquitto.site.port = 443;
        }
        Self { mosquitto, sample }
    }

    /// Starts the worker.
    fn start(&self, log: &str) -> Process {
        let site = &self.mosquitto.site;
        let Some(sample) = &self.sample else { return site.worker(log, &["--log-level", "debug"]) };

        let mut words = sample.split_whitespace();
        let mut command = site.command(words.next().unwrap());
        command.args(words).envs([
            ("ENDPOINT", "localhost"),
            ("CLIENT_ID", "worker-1"),
            ("SUBSCRIBE_TOPIC", "tenant1/to/worker"),
            ("SUBMIT_TOPIC", "tenant1/to/lambda"),
            ("PYTHONUNBUFFERED", "1"),
        ]);
        for (variable, file) in
            [("CA_FILE", "ca.pem"), ("DEVICE_CERT", "worker-1.pem"), ("PRIVATE_KEY", "worker-1.key")]
        {
            command.env(variable, site.path(file));
        }
        Process::start("the sample's worker", &mut command, &site.path(log)).unwrap()
    }

    /// Starts the worker and waits until it has subscribed.
    async fn subscribed(&self, log: &str) -> Process {
        let worker = self.start(log);
        logged(&worker, self.words().subscribed).await;
        worker
    }

    fn words(&self) -> Words {
        if self.sample.is_some() {
            Words {
                refused: "Connection failed",
                subscribed: "Subscribed with",
                received: "Received message",
                ran: "Publishing messages",
            }
        } else {
            Words {
                refused: "(connection refused)",
                subscribed: r#""message":"subscribed""#,
                received: "job received",
                ran: "job succeeded",
            }
        }
    }
}

/// What a worker logs.
struct Words {
    /// The broker could not be reached.
    refused: &'static str,
    subscribed: &'static str,
    /// A job was delivered, for the first time or again.
    received: &'static str,
    /// A handler has returned a result.
    ran: &'static str,
}

#[tokio::test(flavor = "multi_thread")]
async fn defect_1_jobs_that_were_queued_while_the_worker_was_down_run_after_its_restart() {
    let subject = Subject::new("queued");
    let _broker = subject.mosquitto.broker().await;
    let mut worker = subject.subscribed("first.log").await;
    worker.stop();

    let mut cloud = subject.mosquitto.cloud().await;
    for number in 0..5 {
        cloud.send(job(&format!("T{number}"), number, 0)).await;
    }

    let _worker = subject.subscribed("second.log").await;
    let mut results = Vec::new();
    for _ in 0..5 {
        results.push(cloud.answer().await["result"].as_u64().unwrap());
    }
    results.sort_unstable();
    assert_eq!(results, [0, 1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn defect_2_a_job_that_runs_for_several_keep_alives_is_answered_on_its_connection() {
    let site = Site::new("sample-long");
    let mut broker = ScriptedBroker::start(&site).await;
    if let Some(properties) = &mut broker.connack.properties {
        properties.server_keep_alive = Some(1);
    }
    let worker = site.worker("worker.log", &[]);
    let mut connection = broker.accept_subscribed().await;
    let until = site.path("go");
    let held = json!({"Input": {"until": until}, "TaskToken": "T1", "Kind": "hold"});
    connection.publish(1, &held.to_string()).await;
    connection.serve_until(|log| log.acknowledged == [1]).await;

    // A broker closes a connection that is silent for one and a half keep-alives.
    within(async {
        for _ in 0..3 {
            while !matches!(connection.packet().await, Some(Packet::PingReq)) {
                assert!(logs(&worker).matches("connected").count() < 2, "the connection was lost");
            }
            connection.send(Packet::PingResp).await;
        }
    })
    .await;

    fs::write(&until, "").unwrap();
    connection.serve_until(|log| !log.published.is_empty()).await;
    assert_eq!(connection.log.published[0].1["Status"], "SUCCEEDED");
}

#[tokio::test(flavor = "multi_thread")]
async fn defect_8_a_worker_that_starts_before_its_broker_connects_later() {
    let subject = Subject::new("early");
    let worker = subject.start("worker.log");
    logged(&worker, subject.words().refused).await;

    let _broker = subject.mosquitto.broker().await;
    logged(&worker, subject.words().subscribed).await;
    let mut cloud = subject.mosquitto.cloud().await;
    cloud.send(job("T1", 1, 2)).await;
    assert_eq!(cloud.answer().await["result"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn defect_9_a_job_that_is_delivered_twice_runs_once() {
    let subject = Subject::new("twice");
    let _broker = subject.mosquitto.broker().await;
    let worker = subject.subscribed("worker.log").await;

    let mut cloud = subject.mosquitto.cloud().await;
    for token in ["T1", "T1", "T2"] {
        cloud.send(job(token, 1, 2)).await;
    }
    logged_times(&worker, subject.words().received, 3).await;
    while cloud.answer().await["TaskToken"] != "T2" {}

    let runs = logs(&worker).matches(subject.words().ran).count();
    assert_eq!(runs, 2, "the job T1 ran twice:\n{}", logs(&worker));
}

#[tokio::test(flavor = "multi_thread")]
async fn defect_10_the_log_contains_neither_task_tokens_nor_payloads() {
    let subject = Subject::new("secret");
    let _broker = subject.mosquitto.broker().await;
    let worker = subject.subscribed("worker.log").await;

    let mut cloud = subject.mosquitto.cloud().await;
    let (token, input) = ("a-secret-token", 8_765_432_109);
    cloud.send(job(token, input, 1)).await;
    assert_eq!(cloud.answer().await["result"], input + 1);
    logged(&worker, subject.words().ran).await;

    let log = logs(&worker);
    assert!(!log.contains(token) && !log.contains(&input.to_string()), "a secret is in the log:\n{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn defect_12_a_worker_that_is_told_to_stop_ends_in_good_order() {
    let subject = Subject::new("stop");
    let _broker = subject.mosquitto.broker().await;
    let mut worker = subject.subscribed("worker.log").await;

    let status = worker.stop().unwrap();
    assert!(status.success(), "after SIGTERM: {status}");
}
