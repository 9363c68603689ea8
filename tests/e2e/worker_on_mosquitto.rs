//! The worker on a broker that is not the emulator's: mosquitto, with mutual TLS. The test plays the cloud:
//! it publishes jobs and reads answers.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use postern_local::{Process, Project};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rumqttc::mqttbytes::v5::Packet;
use rumqttc::{AsyncClient, Broker, Event, MqttOptions, PublishOptions, QoS, TlsConfiguration, Transport};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::stack::{TIMEOUT, said, said_times};

/// A folder with a CA and certificates, and a port for a broker.
struct Site {
    folder: PathBuf,
    port: u16,
    project: Project,
}

impl Site {
    fn new(name: &str) -> Self {
        let project = Project::here().unwrap();
        let folder = project.file(".postern/tests").join(format!("mosquitto-{name}"));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let site = Self { folder, port, project };
        site.authority("ca");
        for name in ["localhost", "worker-1", "cloud"] {
            site.certificate("ca", name, |_| {});
        }
        let path = |file: &str| site.path(file).display().to_string();
        let config = format!(
            "listener {port} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\n\
             use_identity_as_username true\npersistence false\nmax_packet_size 132096\nlog_dest stdout\n",
            path("ca.pem"),
            path("localhost.pem"),
            path("localhost.key"),
        );
        fs::write(site.path("mosquitto.conf"), config).unwrap();
        site
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    fn authority(&self, name: &str) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        fs::write(self.path(&format!("{name}.pem")), params.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    /// `NAME.pem` and `NAME.key`, signed by `authority`.
    fn certificate(&self, authority: &str, name: &str, change: impl FnOnce(&mut CertificateParams)) {
        let read = |file: String| fs::read_to_string(self.path(&file)).unwrap();
        let authority_key = KeyPair::from_pem(&read(format!("{authority}.key"))).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, authority);
        let issuer = Issuer::new(params, authority_key);
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        fs::write(self.path(&format!("{name}.pem")), params.signed_by(&key, &issuer).unwrap().pem()).unwrap();
        fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    /// Starts the broker and waits until it listens.
    async fn broker(&self) -> Process {
        let program = ["/usr/sbin/mosquitto", "/opt/homebrew/sbin/mosquitto", "/usr/local/sbin/mosquitto"];
        let program = program.into_iter().find(|path| Path::new(path).exists()).unwrap_or("mosquitto");
        let mut command = Command::new(program);
        command.arg("-c").arg(self.path("mosquitto.conf"));
        let broker = Process::start("mosquitto", &mut command, &self.path("mosquitto.log")).unwrap();
        let end = Instant::now() + TIMEOUT;
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < end, "mosquitto does not listen:\n{}", broker.logs());
            sleep(Duration::from_millis(20)).await;
        }
        broker
    }

    fn arguments(&self, certificate: &str, ca: &str) -> Vec<String> {
        let path = |file: String| self.path(&file).display().to_string();
        let endpoint = format!("localhost:{}", self.port);
        let (cert, key) = (path(format!("{certificate}.pem")), path(format!("{certificate}.key")));
        let ca = path(format!("{ca}.pem"));
        let options =
            ["--endpoint", &endpoint, "--client-id", "worker-1", "--cert", &cert, "--key", &key, "--ca", &ca];
        options.map(str::to_owned).to_vec()
    }

    fn worker(&self, log: &str) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_test-worker"));
        command.args(self.arguments("worker-1", "ca"));
        Process::start("the worker", &mut command, &self.path(log)).unwrap()
    }

    /// What `--check` says, and whether it says that all is well.
    fn check(&self, certificate: &str, ca: &str) -> (bool, String) {
        let mut command = Command::new(self.project.program("postern-worker"));
        let output = command.args(self.arguments(certificate, ca)).arg("--check").output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    }

    /// The cloud's side of the broker.
    async fn cloud(&self) -> CloudSide {
        let read = |file: &str| CertificateDer::from_pem_file(self.path(file)).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(read("ca.pem")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(
                vec![read("cloud.pem")],
                PrivateKeyDer::from_pem_file(self.path("cloud.key")).unwrap(),
            )
            .unwrap();
        let mut options = MqttOptions::new("cloud", Broker::tcp("localhost", self.port));
        options
            .set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(tls))))
            .set_unlimited_incoming_packet_size();
        let (client, mut events) = AsyncClient::builder(options).capacity(10).build();
        let (sender, answers) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(event) = events.poll().await {
                if let Event::Incoming(Packet::Publish(publish)) = event {
                    let _ = sender.send(serde_json::from_slice(&publish.payload).unwrap());
                }
            }
        });
        let subscribed = client.subscribe_tracked("tenant1/to/lambda", QoS::AtLeastOnce).await.unwrap();
        subscribed.wait_completion_async().await.unwrap();
        CloudSide { client, answers }
    }
}

struct CloudSide {
    client: AsyncClient,
    answers: mpsc::UnboundedReceiver<Value>,
}

impl CloudSide {
    async fn send(&self, payload: impl ToString) {
        let options = PublishOptions::new(QoS::AtLeastOnce);
        let notice =
            self.client.publish_tracked("tenant1/to/worker", payload.to_string(), options).await.unwrap();
        notice.wait_completion_async().await.unwrap();
    }

    async fn answer(&mut self) -> Value {
        timeout(TIMEOUT, self.answers.recv()).await.expect("no answer came").unwrap()
    }
}

/// The AWS sample's own message.
fn job(token: &str, a: u64, b: u64) -> Value {
    json!({"Input": {"a": a, "b": b}, "TaskToken": token})
}

fn result(token: &str, result: u64) -> Value {
    json!({"TaskToken": token, "Status": "SUCCEEDED", "result": result})
}

#[tokio::test(flavor = "multi_thread")]
async fn the_samples_job_gets_the_samples_result_and_nothing_else() {
    let site = Site::new("sample");
    let _broker = site.broker().await;
    let worker = site.worker("worker.log");
    said(&worker, r#""message":"subscribed""#).await;
    let mut cloud = site.cloud().await;
    cloud.send(job("T1", 15, 42)).await;
    assert_eq!(cloud.answer().await, result("T1", 57));
    cloud.send(json!({"Input": {"a": "x"}, "TaskToken": "T2"})).await;
    let failed = cloud.answer().await;
    assert_eq!((&failed["result"], &failed["exception"]), (&Value::Null, &json!("Add.NotANumber")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_starts_before_its_broker_does() {
    let site = Site::new("early");
    let worker = site.worker("worker.log");
    said(&worker, "nobody listens at the endpoint").await;
    let _broker = site.broker().await;
    said(&worker, r#""message":"subscribed""#).await;
    let mut cloud = site.cloud().await;
    cloud.send(job("T1", 1, 2)).await;
    assert_eq!(cloud.answer().await, result("T1", 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_came_while_the_worker_was_down_are_run() {
    let site = Site::new("queued");
    let _broker = site.broker().await;
    let mut worker = site.worker("first.log");
    said(&worker, r#""message":"subscribed""#).await;
    assert!(worker.stop().unwrap().success());
    assert!(worker.logs().contains(r#""message":"stopped""#));
    let mut cloud = site.cloud().await;
    for number in 0..5 {
        cloud.send(job(&format!("T{number}"), number, 0)).await;
    }
    let _worker = site.worker("second.log");
    let mut results = Vec::new();
    for _ in 0..5 {
        results.push(cloud.answer().await["result"].as_u64().unwrap());
    }
    results.sort_unstable();
    assert_eq!(results, [0, 1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_subscribes_again_when_the_broker_has_lost_its_session() {
    let site = Site::new("lost-session");
    let mut broker = site.broker().await;
    let worker = site.worker("worker.log");
    said(&worker, r#""message":"subscribed""#).await;
    // Without persistence, a broker that restarts knows nobody.
    broker.stop();
    let _broker = site.broker().await;
    said_times(&worker, r#""message":"subscribed""#, 2).await;
    let mut cloud = site.cloud().await;
    cloud.send(job("T1", 1, 2)).await;
    assert_eq!(cloud.answer().await, result("T1", 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_survives_a_broker_that_goes_while_the_job_runs() {
    let site = Site::new("outage");
    let mut broker = site.broker().await;
    let worker = site.worker("worker.log");
    said(&worker, r#""message":"subscribed""#).await;
    let cloud = site.cloud().await;
    let until = site.path("go");
    cloud.send(json!({"Input": {"until": until}, "TaskToken": "T1", "Kind": "hold"})).await;
    said(&worker, r#""message":"job received""#).await;
    broker.stop();
    fs::write(&until, "").unwrap();
    let _broker = site.broker().await;
    let mut cloud = site.cloud().await;
    assert_eq!(cloud.answer().await["TaskToken"], "T1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_delivered_twice_runs_once() {
    let site = Site::new("twice");
    let _broker = site.broker().await;
    let worker = site.worker("worker.log");
    said(&worker, r#""message":"subscribed""#).await;
    let mut cloud = site.cloud().await;
    let until = site.path("go");
    let held = json!({"Input": {"until": until}, "TaskToken": "T1", "Kind": "hold"});
    cloud.send(&held).await;
    cloud.send(&held).await;
    said(&worker, "job received again: it runs").await;
    fs::write(&until, "").unwrap();
    let first = cloud.answer().await;
    cloud.send(&held).await;
    assert_eq!(cloud.answer().await, first, "its answer, again");
    said(&worker, "its answer is sent again").await;
    assert_eq!(worker.logs().matches(r#""message":"job received""#).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sigterm_lets_a_running_job_end() {
    let site = Site::new("drain");
    let _broker = site.broker().await;
    let mut worker = site.worker("worker.log");
    said(&worker, r#""message":"subscribed""#).await;
    let mut cloud = site.cloud().await;
    let until = site.path("go");
    cloud.send(json!({"Input": {"until": until}, "TaskToken": "T1", "Kind": "hold"})).await;
    said(&worker, r#""message":"job received""#).await;
    let stopping = tokio::task::spawn_blocking(move || (worker.stop(), worker));
    let end = Instant::now() + TIMEOUT;
    while !fs::read_to_string(site.path("worker.log")).unwrap().contains("stopping") {
        assert!(Instant::now() < end);
        sleep(Duration::from_millis(20)).await;
    }
    fs::write(&until, "").unwrap();
    assert_eq!(cloud.answer().await["Status"], "SUCCEEDED");
    let (status, _worker) = stopping.await.unwrap();
    assert!(status.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_in_words_what_is_wrong() {
    let site = Site::new("check");
    let (well, report) = site.check("worker-1", "ca");
    assert!(!well && report.contains("nobody listens at the endpoint"), "{report}");

    let _broker = site.broker().await;
    let (well, report) = site.check("worker-1", "ca");
    assert!(well && report.ends_with("all is well: this worker can run\n"), "{report}");

    site.authority("other-ca");
    let (well, report) = site.check("worker-1", "other-ca");
    assert!(!well && report.contains("is not signed by the CA given with --ca"), "{report}");

    site.certificate("other-ca", "stranger", |_| {});
    let (well, report) = site.check("stranger", "ca");
    assert!(!well && report.contains("refused the worker's certificate"), "{report}");

    site.certificate("ca", "expired", |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    let (well, report) = site.check("expired", "ca");
    assert!(!well && report.contains("certificate: FAILED") && report.contains("2021-01-01"), "{report}");

    fs::copy(site.path("cloud.key"), site.path("expired.key")).unwrap();
    fs::copy(site.path("worker-1.pem"), site.path("expired.pem")).unwrap();
    let (well, report) = site.check("expired", "ca");
    assert!(!well && report.contains("does not belong to the certificate"), "{report}");
}
