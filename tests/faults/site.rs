//! A folder with certificates, mosquitto with persistence, and workers whose handlers leave traces.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use postern_local::{Process, Project};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio::time::{Instant, sleep};

use crate::run::Evidence;

/// The longest wait for a process to be ready, on a machine that has other work.
const TIMEOUT: Duration = Duration::from_mins(1);

/// How many workers a run may have.
const WORKERS: usize = 3;

/// The files and the port of one run.
pub(crate) struct Site {
    pub(crate) folder: PathBuf,
    pub(crate) port: u16,
}

impl Site {
    /// A fresh folder with a CA, its certificates, and mosquitto's configuration.
    pub(crate) fn new(name: &str) -> Self {
        let folder = Project::here().unwrap().file(".postern/tests").join(format!("faults-{name}"));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let site = Self { folder, port };
        site.write_certificates();
        site.write_broker_config();
        site
    }

    pub(crate) fn broker_address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    fn path(&self, file: &str) -> String {
        self.folder.join(file).display().to_string()
    }

    fn write_certificates(&self) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "faults");
        let key = KeyPair::generate().unwrap();
        fs::write(self.path("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        let issuer = Issuer::new(params, key);

        let workers = (0..WORKERS).map(|number| format!("worker-{number}"));
        for name in workers.chain(["localhost".into(), "cloud".into()]) {
            let mut params = CertificateParams::new(vec![name.clone()]).unwrap();
            params.distinguished_name.push(DnType::CommonName, &name);
            let key = KeyPair::generate().unwrap();
            let certificate = params.signed_by(&key, &issuer).unwrap();
            fs::write(self.path(&format!("{name}.pem")), certificate.pem()).unwrap();
            fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
        }
    }

    fn write_broker_config(&self) {
        let lines = [
            format!("listener {} 127.0.0.1", self.port),
            format!("cafile {}", self.path("ca.pem")),
            format!("certfile {}", self.path("localhost.pem")),
            format!("keyfile {}", self.path("localhost.key")),
            "require_certificate true".into(),
            "use_identity_as_username true".into(),
            "persistence true".into(),
            format!("persistence_location {}/", self.folder.display()),
            "max_queued_messages 0".into(),
            "log_dest stdout".into(),
        ];
        fs::write(self.folder.join("mosquitto.conf"), lines.join("\n") + "\n").unwrap();
    }

    /// Starts mosquitto and waits until it listens.
    pub(crate) async fn start_broker(&self) -> Process {
        let programs = ["/usr/sbin/mosquitto", "/opt/homebrew/sbin/mosquitto", "/usr/local/sbin/mosquitto"];
        let program = programs.into_iter().find(|path| fs::exists(path).unwrap_or(false));
        let mut command = Command::new(program.unwrap_or("mosquitto"));
        command.arg("-c").arg(self.path("mosquitto.conf"));
        let broker = Process::start("mosquitto", &mut command, &self.folder.join("mosquitto.log")).unwrap();

        let end = Instant::now() + TIMEOUT;
        while TcpStream::connect(self.broker_address()).is_err() {
            assert!(Instant::now() < end, "mosquitto does not listen:\n{}", broker.said());
            sleep(Duration::from_millis(20)).await;
        }
        broker
    }

    /// Starts a worker, which reaches the broker through `port`.
    pub(crate) fn start_worker(&self, number: usize, in_group: bool, port: u16) -> Process {
        let name = format!("worker-{number}");
        let mut command = Command::new(env!("CARGO_BIN_EXE_fault-worker"));
        command
            .env("FAULTS_FOLDER", &self.folder)
            .args(["--endpoint", &format!("localhost:{port}"), "--client-id", &name])
            .args(["--cert", &self.path(&format!("{name}.pem")), "--key", &self.path(&format!("{name}.key"))])
            .args(["--ca", &self.path("ca.pem"), "--state-dir", &self.path(&format!("{name}-state"))]);
        if in_group {
            command.args(["--group", "plant"]);
        }

        // Each start has a log of its own, so that the log of a worker that was killed is still there.
        let logs = (0..).map(|start| self.folder.join(format!("{name}.{start}.log")));
        let log = logs.into_iter().find(|log| !log.exists()).unwrap();
        Process::start("the worker", &mut command, &log).unwrap()
    }

    /// Waits until a worker is subscribed.
    pub(crate) async fn until_subscribed(&self, worker: &Process) {
        let end = Instant::now() + TIMEOUT;
        while !worker.said().contains(r#""message":"subscribed""#) {
            assert!(Instant::now() < end, "the worker does not subscribe:\n{}", worker.said());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Reads what the handlers left behind.
    pub(crate) fn read_traces(&self, evidence: &mut Evidence) {
        let starts = fs::read_to_string(self.folder.join("starts.log")).unwrap_or_default();
        for (job_id, key) in starts.lines().filter_map(|line| line.split_once(' ')) {
            *evidence.starts_by_job.entry(job_id.into()).or_default() += 1;
            *evidence.starts_by_key.entry(key.into()).or_default() += 1;
        }

        let Ok(effects) = rusqlite::Connection::open(self.folder.join("effects.db")) else { return };
        let Ok(mut rows) = effects.prepare("select key from effect") else { return };
        evidence.effects = rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    }
}
