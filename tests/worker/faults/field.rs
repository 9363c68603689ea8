//! The processes of a run: mosquitto, and workers whose handlers leave traces.

use std::fs;
use std::net::SocketAddr;

use postern_local::Process;

use super::run::Evidence;
use crate::mosquitto::Mosquitto;
use crate::site::logged;

/// How many workers a run may have.
const WORKERS: usize = 3;

/// The files of one run, and the broker's port.
pub(crate) struct Field(Mosquitto);

impl Field {
    /// A fresh folder with mosquitto's configuration and all certificates.
    pub(crate) fn new(name: &str) -> Self {
        let mosquitto = Mosquitto::persistent(&format!("faults-{name}"));
        for number in 0..WORKERS {
            mosquitto.site.certificate("ca", &format!("field-{number}"), |_| {});
        }
        Self(mosquitto)
    }

    pub(crate) fn site(&self) -> &crate::site::Site {
        &self.0.site
    }

    pub(crate) fn broker_address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.site().port))
    }

    /// Starts mosquitto and waits until it listens.
    pub(crate) async fn start_broker(&self) -> Process {
        self.0.broker().await
    }

    /// Starts a worker, which reaches the broker through `port`.
    pub(crate) fn start_worker(&self, number: usize, in_group: bool, port: u16) -> Process {
        let name = format!("field-{number}");
        let path = |file: String| self.site().path(&file).display().to_string();
        let mut command = self.site().command(env!("CARGO_BIN_EXE_fault-worker"));
        command
            .env("FAULTS_FOLDER", &self.site().folder)
            .args(["--endpoint", &format!("localhost:{port}"), "--client-id", &name])
            .args(["--cert", &path(format!("{name}.pem")), "--key", &path(format!("{name}.key"))])
            .args(["--ca", &path("ca.pem".into()), "--state-dir", &path(format!("{name}-state"))]);
        if in_group {
            command.args(["--group", "plant"]);
        }

        // Each start has a log of its own, so that the log of a worker that was killed is still there.
        let logs = (0..).map(|start| self.site().path(&format!("{name}.{start}.log")));
        let log = logs.into_iter().find(|log| !log.exists()).unwrap();
        Process::start("the worker", &mut command, &log).unwrap()
    }

    /// Waits until a worker is subscribed.
    pub(crate) async fn until_subscribed(&self, worker: &Process) {
        logged(worker, r#""message":"subscribed""#).await;
    }

    /// Reads what the handlers left behind.
    pub(crate) fn read_traces(&self, evidence: &mut Evidence) {
        let starts = fs::read_to_string(self.site().path("starts.log")).unwrap_or_default();
        for (job_id, key) in starts.lines().filter_map(|line| line.split_once(' ')) {
            *evidence.starts_by_job.entry(job_id.into()).or_default() += 1;
            *evidence.starts_by_key.entry(key.into()).or_default() += 1;
        }

        // Without any `exactly-once` job there is no table.
        let Ok(effects) = rusqlite::Connection::open(self.site().path("effects.db")) else { return };
        let Ok(mut rows) = effects.prepare("select key from effect") else { return };
        evidence.effects = rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    }
}
