//! The worker on mosquitto with mutual TLS: a second, independent broker beside the emulator's.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use postern_local::Process;
use rcgen::date_time_ymd;
use rumqttc::mqttbytes::v5::Packet;
use rumqttc::{AsyncClient, Broker, Event, MqttOptions, PublishOptions, QoS, TlsConfiguration, Transport};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::site::{Site, TIMEOUT, logged, logged_times, logs};

/// A site whose broker is mosquitto.
pub(crate) struct Mosquitto {
    pub(crate) site: Site,
}

impl Mosquitto {
    /// A broker without persistence, which loses its sessions and messages when it stops.
    pub(crate) fn new(name: &str) -> Self {
        Self::with_config(name, "persistence false\n")
    }

    /// A broker with persistence and without a limit on queued messages, which keeps its sessions and messages when it
    /// stops.
    pub(crate) fn persistent(name: &str) -> Self {
        let folder = Site::folder(&format!("mosquitto-{name}"));
        Self::with_config(
            name,
            // Started by root, mosquitto would become a user who may not write into the folder.
            &format!(
                "user root\npersistence true\npersistence_location {}/\nmax_queued_messages 0\n",
                folder.display()
            ),
        )
    }

    /// A broker with these additional lines of configuration.
    fn with_config(name: &str, more: &str) -> Self {
        let site = Site::new(&format!("mosquitto-{name}"));
        let path = |file: &str| site.path(file).display().to_string();
        let config = format!(
            "listener {} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\n\
             use_identity_as_username true\nmax_packet_size 132096\nlog_dest stdout\n{more}",
            site.port,
            path("ca.pem"),
            path("localhost.pem"),
            path("localhost.key"),
        );
        fs::write(site.path("mosquitto.conf"), config).unwrap();
        Self { site }
    }

    /// Starts the broker and waits until it listens.
    pub(crate) async fn broker(&self) -> Process {
        let program = ["/usr/sbin/mosquitto", "/opt/homebrew/sbin/mosquitto", "/usr/local/sbin/mosquitto"];
        let program = program.into_iter().find(|path| Path::new(path).exists()).unwrap_or("mosquitto");
        let mut command = Command::new(program);
        command.arg("-c").arg(self.site.path("mosquitto.conf"));
        let broker = Process::start("mosquitto", &mut command, &self.site.path("mosquitto.log")).unwrap();

        let end = Instant::now() + TIMEOUT;
        while std::net::TcpStream::connect(("127.0.0.1", self.site.port)).is_err() {
            assert!(Instant::now() < end, "mosquitto does not listen:\n{}", logs(&broker));
            sleep(Duration::from_millis(20)).await;
        }
        broker
    }

    pub(crate) fn worker(&self, log: &str) -> Process {
        self.site.worker(log, &[])
    }

    /// Runs `doctor` and returns whether it succeeded, and its report.
    fn doctor(&self, certificate: &str, ca: &str) -> (bool, String) {
        let mut arguments = self.site.arguments(certificate, ca);
        arguments.insert(0, "doctor".into());
        let output = self.site.postern_worker(&arguments);
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    }

    /// Connects as the cloud and subscribes to the answers.
    pub(crate) async fn cloud(&self) -> CloudSide {
        let tls =
            rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(self.site.roots("ca"))
                .with_client_auth_cert(vec![self.site.pem("cloud")], self.site.key("cloud"))
                .unwrap();

        let mut options = MqttOptions::new("cloud", Broker::tcp("localhost", self.site.port));
        options
            .set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(tls))))
            .set_unlimited_incoming_packet_size();
        let (client, mut events) = AsyncClient::builder(options).capacity(10).build();
        let (sender, answers) = mpsc::unbounded_channel();
        let (view_sender, views) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(event) = events.poll().await {
                let Event::Incoming(Packet::Publish(publish)) = event else { continue };
                let message = serde_json::from_slice(&publish.payload).unwrap();
                // A test that has ended needs no more messages.
                let _ = if publish.topic == "tenant1/to/lambda" {
                    sender.send(message)
                } else {
                    view_sender.send(message)
                };
            }
        });
        let subscribed = client.subscribe_tracked("tenant1/to/lambda", QoS::AtLeastOnce).await.unwrap();
        subscribed.wait_completion_async().await.unwrap();
        CloudSide { client, answers, views }
    }
}

/// The cloud's connection to the broker.
pub(crate) struct CloudSide {
    client: AsyncClient,
    answers: mpsc::UnboundedReceiver<Value>,
    /// Messages on the topics that the test follows.
    views: mpsc::UnboundedReceiver<Value>,
}

impl CloudSide {
    /// Publishes a job and waits for the broker's PUBACK.
    pub(crate) async fn send(&self, payload: impl ToString) {
        self.send_on("tenant1/to/worker", payload).await;
    }

    /// Publishes a message on a topic and waits for the broker's PUBACK.
    pub(crate) async fn send_on(&self, topic: &str, payload: impl ToString) {
        let options = PublishOptions::new(QoS::AtLeastOnce);
        let notice = self.client.publish_tracked(topic, payload.to_string(), options).await.unwrap();
        notice.wait_completion_async().await.unwrap();
    }

    /// Subscribes to another topic than the answers'.
    pub(crate) async fn follow(&self, topic: &str) {
        let subscribed = self.client.subscribe_tracked(topic, QoS::AtLeastOnce).await.unwrap();
        subscribed.wait_completion_async().await.unwrap();
    }

    /// Waits for a message on the topics that the test follows that satisfies the condition.
    pub(crate) async fn view(&mut self, condition: impl Fn(&Value) -> bool) -> Value {
        let found = timeout(TIMEOUT, async {
            loop {
                let message = self.views.recv().await.unwrap();
                if condition(&message) {
                    return message;
                }
            }
        });
        found.await.expect("no such message came")
    }

    /// Waits for the worker's next answer.
    pub(crate) async fn answer(&mut self) -> Value {
        timeout(TIMEOUT, self.answers.recv()).await.expect("the worker sent no answer").unwrap()
    }
}

/// A job in the AWS sample's format.
pub(crate) fn job(token: &str, a: u64, b: u64) -> Value {
    json!({"Input": {"a": a, "b": b}, "TaskToken": token})
}

/// The answer to a job that succeeded.
fn result(token: &str, result: u64) -> Value {
    json!({"TaskToken": token, "Status": "SUCCEEDED", "result": result})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_the_aws_sample_is_answered_in_the_samples_format() {
    let site = Mosquitto::new("sample");
    let _broker = site.broker().await;
    let worker = site.worker("worker.log");
    logged(&worker, r#""message":"subscribed""#).await;

    let mut cloud = site.cloud().await;
    cloud.send(job("T1", 15, 42)).await;
    assert_eq!(cloud.answer().await, result("T1", 57));
    cloud.send(json!({"Input": {"a": "x"}, "TaskToken": "T2"})).await;
    let failed = cloud.answer().await;
    assert_eq!((&failed["result"], &failed["exception"]), (&Value::Null, &json!("Add.NotANumber")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_subscribes_again_when_the_broker_has_lost_its_session() {
    let site = Mosquitto::new("lost-session");
    let mut broker = site.broker().await;
    let worker = site.worker("worker.log");
    logged(&worker, r#""message":"subscribed""#).await;

    // Without persistence, the broker loses all sessions when it restarts.
    broker.stop();
    let _broker = site.broker().await;
    logged_times(&worker, r#""message":"subscribed""#, 2).await;

    let mut cloud = site.cloud().await;
    cloud.send(job("T1", 1, 2)).await;
    assert_eq!(cloud.answer().await, result("T1", 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_survives_a_restart_of_the_broker_while_the_job_runs() {
    let site = Mosquitto::new("outage");
    let mut broker = site.broker().await;
    let worker = site.worker("worker.log");
    logged(&worker, r#""message":"subscribed""#).await;
    let cloud = site.cloud().await;
    let until = site.site.path("go");
    cloud.send(json!({"Input": {"until": until}, "TaskToken": "T1", "Kind": "hold"})).await;
    logged(&worker, r#""message":"job received""#).await;
    broker.stop();

    fs::write(&until, "").unwrap();
    let _broker = site.broker().await;

    let mut cloud = site.cloud().await;
    assert_eq!(cloud.answer().await["TaskToken"], "T1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_delivered_twice_runs_once() {
    let site = Mosquitto::new("twice");
    let _broker = site.broker().await;
    let worker = site.worker("worker.log");
    logged(&worker, r#""message":"subscribed""#).await;

    let mut cloud = site.cloud().await;
    let until = site.site.path("go");
    let held = json!({"Input": {"until": until}, "TaskToken": "T1", "Kind": "hold"});
    cloud.send(&held).await;
    cloud.send(&held).await;

    logged(&worker, "job received again: its answer will follow").await;

    fs::write(&until, "").unwrap();
    let first = cloud.answer().await;
    cloud.send(&held).await;
    assert_eq!(cloud.answer().await, first, "the answer must be sent again");
    logged(&worker, "its answer is sent again").await;
    assert_eq!(logs(&worker).matches(r#""message":"job received""#).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sigterm_lets_a_running_job_finish() {
    let site = Mosquitto::new("drain");
    let _broker = site.broker().await;
    let mut worker = site.worker("worker.log");
    logged(&worker, r#""message":"subscribed""#).await;

    let mut cloud = site.cloud().await;
    let until = site.site.path("go");
    cloud.send(json!({"Input": {"until": until}, "TaskToken": "T1", "Kind": "hold"})).await;
    logged(&worker, r#""message":"job received""#).await;

    let stopping = tokio::task::spawn_blocking(move || (worker.stop(), worker));
    let end = Instant::now() + TIMEOUT;
    while !fs::read_to_string(site.site.path("worker.log")).unwrap().contains("stopping") {
        assert!(Instant::now() < end);
        sleep(Duration::from_millis(20)).await;
    }

    fs::write(&until, "").unwrap();
    assert_eq!(cloud.answer().await["Status"], "SUCCEEDED");
    let (status, _worker) = stopping.await.unwrap();
    assert!(status.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_explains_what_is_wrong() {
    let site = Mosquitto::new("check");
    let (succeeded, report) = site.doctor("worker-1", "ca");
    assert!(!succeeded && report.contains("(connection refused)"), "{report}");

    let _broker = site.broker().await;
    let (succeeded, report) = site.doctor("worker-1", "ca");
    assert!(succeeded && report.ends_with("all is well: this worker can run\n"), "{report}");

    site.site.authority("other-ca");
    let (succeeded, report) = site.doctor("worker-1", "other-ca");
    assert!(!succeeded && report.contains("is not signed by the configured CA"), "{report}");

    site.site.certificate("other-ca", "stranger", |_| {});
    let (succeeded, report) = site.doctor("stranger", "ca");
    assert!(!succeeded && report.contains("refused the worker's certificate"), "{report}");

    site.site.certificate("ca", "expired", |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    let (succeeded, report) = site.doctor("expired", "ca");
    assert!(
        !succeeded && report.contains("certificate: FAILED") && report.contains("2021-01-01"),
        "{report}"
    );

    fs::copy(site.site.path("cloud.key"), site.site.path("expired.key")).unwrap();
    fs::copy(site.site.path("worker-1.pem"), site.site.path("expired.pem")).unwrap();
    let (succeeded, report) = site.doctor("expired", "ca");
    assert!(!succeeded && report.contains("does not belong to the certificate"), "{report}");
}
