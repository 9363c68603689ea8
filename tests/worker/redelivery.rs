//! Redeliveries: on the same connection, on the next connection, and after a packet that was cut off.
//!
//! If a PUBACK is late, AWS IoT Core delivers the message again after about 30 seconds, on the same connection, with
//! the same packet id and without the DUP flag.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use postern_local::Process;

use crate::scripted_broker::{Connection, Log, ScriptedBroker, publish};
use crate::site::{Site, logged_times, logs};

/// How long each sync takes in the tests with a slow store.
const SLOW: Duration = Duration::from_millis(400);

/// A site whose workers have a slow journal.
fn slow(name: &str) -> Site {
    let site = Site::new(&format!("{name}-slow"));
    site.disk().slow(SLOW).unwrap();
    site
}

/// Runs each case as two tests: with the machine's own disk, and with a slow one.
macro_rules! with_a_quick_and_a_slow_store {
    ($($case:ident: $site:literal,)*) => {
        mod quick_store {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                super::$case(super::Site::new($site)).await;
            })*
        }

        mod slow_store {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                super::$case(super::slow($site)).await;
            })*
        }
    };
}

with_a_quick_and_a_slow_store! {
    bursts_of_redeliveries_on_one_connection_run_each_job_once_and_keep_the_connection: "bursts",
    jobs_whose_connection_is_lost_before_their_acknowledgement_run_once: "owed",
    a_job_whose_packet_was_cut_off_runs_once_when_it_is_delivered_in_full: "cut",
    after_a_lost_session_the_worker_subscribes_again_and_resends_unacknowledged_answers: "session",
    a_reused_packet_id_with_another_message_is_another_job: "reused",
}

fn job(number: u16) -> String {
    format!(r#"{{"Input":{{"a":{number},"b":1}},"TaskToken":"T{number}"}}"#)
}

/// Sends a job for each packet id.
async fn send(connection: &mut Connection, packet_ids: Range<u16>) {
    for packet_id in packet_ids {
        connection.publish(packet_id, &job(packet_id)).await;
    }
}

/// Whether each of the packet ids is acknowledged.
fn all_acknowledged(log: &Log, packet_ids: Range<u16>) -> bool {
    packet_ids.into_iter().all(|packet_id| log.acknowledged.contains(&packet_id))
}

/// Whether the jobs have `count` different answers.
fn answered(log: &Log, count: usize) -> bool {
    let tokens: BTreeSet<_> =
        log.published.iter().filter_map(|(_, message)| message["TaskToken"].as_str()).collect();
    tokens.len() >= count
}

/// Checks that the worker has run `count` jobs, including the probe of [`Connection::still_works`].
async fn assert_runs(worker: &Process, count: usize) {
    const RECEIVED: &str = r#""message":"job received""#;
    logged_times(worker, RECEIVED, count).await;
    assert_eq!(logs(worker).matches(RECEIVED).count(), count, "a job ran twice");
}

async fn bursts_of_redeliveries_on_one_connection_run_each_job_once_and_keep_the_connection(site: Site) {
    let broker = ScriptedBroker::start(&site).await;
    let worker = site.worker("worker.log", &[]);
    let mut connection = broker.accept_subscribed().await;

    for _ in 0..5 {
        send(&mut connection, 1..51).await;
    }
    connection.serve_until(|log| all_acknowledged(log, 1..51) && answered(log, 50)).await;

    // The broker delivers messages again whose PUBACK it has just received, because its PUBLISH crossed the PUBACK.
    // Each of these deliveries needs a PUBACK of its own. Otherwise the broker can never use the packet id again.
    connection.log.acknowledged.clear();
    send(&mut connection, 1..51).await;
    connection.serve_until(|log| all_acknowledged(log, 1..51)).await;
    connection.still_works().await;

    assert_runs(&worker, 51).await;
}

async fn jobs_whose_connection_is_lost_before_their_acknowledgement_run_once(site: Site) {
    let broker = ScriptedBroker::start(&site).await;
    let worker = site.worker("worker.log", &[]);
    let mut first = broker.accept_subscribed().await;
    send(&mut first, 1..101).await;
    drop(first);

    // The broker has kept the session. It delivers the jobs again with other packet ids, so that an acknowledgement
    // meant for the first connection would acknowledge an unknown packet id, or another job.
    let mut second = broker.accept(true).await;
    for packet_id in 201..301 {
        second.publish(packet_id, &job(packet_id - 200)).await;
    }
    second.serve_until(|log| all_acknowledged(log, 201..301) && answered(log, 100)).await;
    second.still_works().await;

    let stray: Vec<_> = second.log.acknowledged.iter().filter(|packet_id| **packet_id <= 100).collect();
    assert!(stray.is_empty(), "acknowledged on the wrong connection: {stray:?}");
    assert_runs(&worker, 101).await;
}

async fn a_job_whose_packet_was_cut_off_runs_once_when_it_is_delivered_in_full(site: Site) {
    let broker = ScriptedBroker::start(&site).await;
    let worker = site.worker("worker.log", &[]);
    let first = broker.accept_subscribed().await;
    first.cut_in_the_middle_of(publish(1, &job(1))).await;

    let mut second = broker.accept(true).await;
    second.publish(1, &job(1)).await;
    second.serve_until(|log| answered(log, 1) && all_acknowledged(log, 1..2)).await;

    assert_runs(&worker, 1).await;
}

async fn after_a_lost_session_the_worker_subscribes_again_and_resends_unacknowledged_answers(site: Site) {
    let broker = ScriptedBroker::start(&site).await;
    let _worker = site.worker("worker.log", &[]);
    let mut first = broker.accept_subscribed().await;
    first.withhold_pubacks = true;
    send(&mut first, 1..6).await;
    first.serve_until(|log| answered(log, 5)).await;
    drop(first);

    let mut second = broker.accept(false).await;
    second.serve_until(|log| log.subscriptions == 1 && answered(log, 5)).await;
    second.still_works().await;
}

async fn a_reused_packet_id_with_another_message_is_another_job(site: Site) {
    let broker = ScriptedBroker::start(&site).await;
    let worker = site.worker("worker.log", &[]);
    let mut connection = broker.accept_subscribed().await;

    for number in 1..21 {
        connection.log.acknowledged.clear();
        connection.publish(7, &job(number)).await;
        connection.serve_until(|log| log.acknowledged == [7]).await;
    }
    connection.serve_until(|log| answered(log, 20)).await;

    assert_runs(&worker, 20).await;
}
