//! A worker whose disk becomes full, read-only or damaged while it runs: it accepts nothing that it could lose, says so,
//! and continues by itself when the disk can be written again.

use std::fs;

use postern_local::Process;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::scripted_broker::{Connection, QUIET, ScriptedBroker, within};
use crate::site::{Site, TIMEOUT, logged, logs};

/// A worker with a status address, connected to a scripted broker.
struct Bench {
    site: Site,
    _broker: ScriptedBroker,
    worker: Process,
    status: String,
    connection: Connection,
}

impl Bench {
    async fn start(name: &str) -> Self {
        let site = Site::new(name);
        let broker = ScriptedBroker::start(&site).await;
        let status = format!("127.0.0.1:{}", site.unused_port());
        let worker = site.worker("worker.log", &["--status-address", &status]);
        let connection = broker.accept_subscribed().await;
        Self { site, _broker: broker, worker, status, connection }
    }

    /// Sends a job whose token and packet id are `number`.
    async fn send(&mut self, number: u16) {
        let job = json!({"Input": {"a": number, "b": 1}, "TaskToken": format!("T{number}")});
        self.connection.publish(number, &job.to_string()).await;
    }

    /// Waits until the job has its PUBACK and its answer.
    async fn done(&mut self, number: u16) {
        let token = format!("T{number}");
        self.connection
            .serve_until(|log| {
                log.acknowledged.contains(&number)
                    && log.published.iter().any(|(_, answer)| answer["TaskToken"] == token)
            })
            .await;
    }

    /// Sends a job that the worker cannot accept, and checks that the worker says why and acknowledges nothing.
    async fn refuses(&mut self, number: u16, reason: &str) {
        self.send(number).await;
        until_health(&self.status, 503, reason).await;
        logged(&self.worker, "no job is accepted until it can").await;
        assert!(logs(&self.worker).contains(reason), "{reason}: {}", logs(&self.worker));

        let sent = tokio::time::timeout(QUIET, self.connection.packet_of_a_job()).await;
        assert!(sent.is_err(), "the worker answered although it could not note anything: {sent:?}");
    }

    /// Checks that the worker has recovered by itself: the job that waited, and another one, are done.
    async fn recovers(&mut self, waiting: u16) {
        self.done(waiting).await;
        until_health(&self.status, 200, "ok").await;
        logged(&self.worker, "the journal can be written again").await;
        self.send(waiting + 1).await;
        self.done(waiting + 1).await;
    }
}

/// Waits until `/healthz` answers with this status and a text that contains `reason`.
async fn until_health(address: &str, status: u16, reason: &str) {
    let agent =
        ureq::Agent::new_with_config(ureq::Agent::config_builder().http_status_as_error(false).build());
    let end = Instant::now() + TIMEOUT;
    loop {
        let answer = agent.get(format!("http://{address}/healthz")).call().map(|mut response| {
            (response.status().as_u16(), response.body_mut().read_to_string().unwrap_or_default())
        });
        if matches!(&answer, Ok((found, text)) if *found == status && text.contains(reason)) {
            return;
        }
        assert!(Instant::now() < end, "/healthz does not answer {status} {reason:?}: {answer:?}");
        sleep(QUIET / 10).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_with_a_full_disk_accepts_nothing_says_so_and_recovers_by_itself() {
    let mut bench = Bench::start("disk-full").await;
    bench.send(1).await;
    bench.done(1).await;

    bench.site.disk().full(true).unwrap();
    bench.refuses(2, "database or disk is full").await;

    bench.site.disk().full(false).unwrap();
    bench.recovers(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_disk_has_become_read_only_recovers_by_itself() {
    let mut bench = Bench::start("disk-failing").await;
    bench.send(1).await;
    bench.done(1).await;

    bench.site.disk().failing(true).unwrap();
    bench.refuses(2, "disk I/O error").await;

    bench.site.disk().failing(false).unwrap();
    bench.recovers(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_is_kept_while_the_disk_is_full_and_sent_when_there_is_room() {
    let mut bench = Bench::start("disk-result").await;
    let until = bench.site.path("go");
    let job = json!({"Input": {"until": until}, "TaskToken": "T1", "Kind": "hold"});
    bench.connection.publish(1, &job.to_string()).await;
    bench.connection.serve_until(|log| log.acknowledged == [1]).await;

    logged(&bench.worker, r#""message":"job received""#).await;
    bench.site.disk().full(true).unwrap();
    fs::write(&until, "").unwrap();
    until_health(&bench.status, 503, "full").await;
    let sent = tokio::time::timeout(QUIET, bench.connection.packet_of_a_job()).await;
    assert!(sent.is_err(), "published before it was on the disk: {sent:?}");

    bench.site.disk().full(false).unwrap();
    bench.done(1).await;
    until_health(&bench.status, 200, "ok").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_is_damaged_while_the_worker_runs_is_named_and_can_be_replaced() {
    let mut bench = Bench::start("disk-damaged").await;
    bench.send(1).await;
    bench.done(1).await;

    // A disk that returns other bytes than were written: the main file, the log and the index of the log.
    let state = bench.site.path("state");
    for file in ["journal.sqlite", "journal.sqlite-wal", "journal.sqlite-shm"] {
        let length = fs::metadata(state.join(file)).unwrap().len();
        let damaged = fs::OpenOptions::new().write(true).open(state.join(file)).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&damaged, &vec![b'x'; usize::try_from(length).unwrap()], 0)
            .unwrap();
    }
    bench.refuses(2, "journal.sqlite is damaged").await;

    // What the message advises: the operator moves the file away.
    for file in ["journal.sqlite", "journal.sqlite-wal", "journal.sqlite-shm"] {
        let _ = fs::rename(state.join(file), state.join(format!("{file}.damaged")));
    }
    bench.recovers(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_starts_without_its_state_directory_waits_for_it() {
    let site = Site::new("disk-absent");
    let broker = ScriptedBroker::start(&site).await;
    let status = format!("127.0.0.1:{}", site.unused_port());
    // A file stands where the directory should be: not even root can create it.
    fs::write(site.path("state"), "").unwrap();
    let worker = site.worker("worker.log", &["--status-address", &status]);
    logged(&worker, "the journal cannot be opened, so that no job is accepted").await;
    until_health(&status, 503, "the worker needs a directory that it can write to").await;

    fs::remove_file(site.path("state")).unwrap();
    let mut connection = within(broker.accept_subscribed()).await;
    connection.still_works().await;
    until_health(&status, 200, "ok").await;
}
