//! The processes of a run: mosquitto, and workers whose handlers leave traces.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use postern_local::Process;
use tokio::time::{Instant, sleep};

use super::run::Evidence;
use crate::mosquitto::Mosquitto;
use crate::site::{TIMEOUT, logged, logs};

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

    /// Deletes the sessions and messages that the broker has saved. The broker must not run.
    pub(crate) fn delete_sessions(&self) {
        fs::remove_file(self.site().path("mosquitto.db")).unwrap();
    }

    /// Waits until a worker has a connection and a subscription that are not in the first `before` bytes of its log.
    pub(crate) async fn until_connected_again(&self, worker: &Process, before: usize) {
        let end = Instant::now() + 2 * TIMEOUT;
        while !is_connected_again(&logs(worker), before) {
            assert!(Instant::now() < end, "no new connection in:\n{}", logs(worker));
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// How many jobs a worker has received in all its processes.
    pub(crate) fn received(&self, number: usize) -> usize {
        let logs = (0..).map(|start| self.site().path(&format!("field-{number}.{start}.log")));
        let logs = logs.map_while(|log| fs::read_to_string(log).ok());
        logs.map(|log| log.matches(r#""message":"job received""#).count()).sum()
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

/// Whether the log, without its first bytes, has a connection that receives jobs: one with the old session of a worker
/// that was subscribed already, or one that has subscribed.
fn is_connected_again(log: &str, before: usize) -> bool {
    const SUBSCRIBED: &str = r#""message":"subscribed""#;
    let (old, new) = log.split_at(before);
    let Some(connected) = new.rfind(r#""message":"connected""#) else { return false };

    let connection = &new[connected..];
    let kept = connection.lines().next().is_some_and(|line| line.contains(r#""session":true"#));
    let subscribed_before = old.contains(SUBSCRIBED) || new[..connected].contains(SUBSCRIBED);
    (kept && subscribed_before) || connection.contains(SUBSCRIBED)
}
