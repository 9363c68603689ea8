//! What an operator and a service manager see of the real `postern-worker`: the status address, the notifications of
//! systemd, and the trace's id in the log.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use postern_local::Process;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::scripted_broker::{ScriptedBroker, within};
use crate::site::{Site, TIMEOUT, logged, logged_times, logs};

/// Starts `postern-worker`, not the tests' own worker.
fn postern_worker(site: &Site, more: &[&str], variables: &[(&str, &str)]) -> Process {
    let program = postern_local::Project::here().unwrap().program("postern-worker");
    let mut command = site.command(program);
    command.args(site.arguments("worker-1", "ca")).args(more).envs(variables.iter().copied());
    Process::start("postern-worker", &mut command, &site.path("worker.log")).unwrap()
}

/// The status and the body of a GET request; `None` while nobody listens.
fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let agent =
        ureq::Agent::new_with_config(ureq::Agent::config_builder().http_status_as_error(false).build());
    let mut response = agent.get(format!("http://127.0.0.1:{port}{path}")).call().ok()?;
    Some((response.status().as_u16(), response.body_mut().read_to_string().unwrap()))
}

/// Waits until `path` has the status, and returns the body.
async fn status(port: u16, path: &str, expected: u16) -> String {
    let end = Instant::now() + TIMEOUT;
    loop {
        let response = get(port, path);
        if let Some((status, body)) = &response
            && *status == expected
        {
            return body.clone();
        }
        assert!(Instant::now() < end, "{path}: {response:?}, not {expected}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_address_says_whether_the_worker_is_healthy_and_ready_and_counts_its_jobs() {
    let site = Site::new("status");
    let port = site.unused_port();
    let worker = postern_worker(&site, &["--status-address", &format!("127.0.0.1:{port}")], &[]);
    assert_eq!(status(port, "/healthz", 200).await, "ok\n", "without a broker the worker is healthy");
    assert!(status(port, "/readyz", 503).await.contains("not connected"));

    let broker = ScriptedBroker::start(&site).await;
    let mut connection = broker.accept_subscribed().await;
    assert_eq!(status(port, "/readyz", 200).await, "ok\n");
    connection.publish(1, &json!({"Input": {"a": 1, "b": 2}, "TaskToken": "T1"}).to_string()).await;
    connection.serve_until(|log| log.published.len() == 1 && log.acknowledged == [1]).await;
    logged(&worker, "answer delivered").await;
    let metrics = status(port, "/metrics", 200).await;
    for line in ["jobs_received_total 1", "jobs_succeeded_total 1", "answers_sent_total 1", "connected 1"] {
        assert!(metrics.contains(&format!("\npostern_worker_{line}\n")), "{line} is missing in:\n{metrics}");
    }

    fs::write(site.path("state/paused"), "").unwrap();
    assert_eq!(status(port, "/readyz", 503).await, "the worker is paused\n");
    assert_eq!(get(port, "/healthz").unwrap().0, 200);
    fs::remove_file(site.path("state/paused")).unwrap();
    status(port, "/readyz", 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_manager_is_notified_of_readiness_life_and_stop() {
    let site = Site::new("notify");
    // The path of a socket has 108 bytes at most.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    let path = path.to_str().unwrap();
    let mut worker = postern_worker(&site, &[], &[("NOTIFY_SOCKET", path), ("WATCHDOG_USEC", "500000")]);

    notified(&socket, "WATCHDOG=1", &["READY=1"]).await;
    let broker = ScriptedBroker::start(&site).await;
    let mut connection = broker.accept_subscribed().await;
    connection.still_works().await;
    notified(&socket, "READY=1", &[]).await;
    notified(&socket, "WATCHDOG=1", &["READY=1"]).await;

    let stopping = tokio::task::spawn_blocking(move || worker.stop());
    connection.serve_until_closed().await;
    notified(&socket, "STOPPING=1", &["READY=1"]).await;
    assert!(stopping.await.unwrap().unwrap().success());
}

/// Waits for a notification. None of `not` may come before it.
async fn notified(socket: &UnixDatagram, expected: &str, not: &[&str]) {
    within(async {
        let mut buffer = [0; 1_024];
        loop {
            let Ok(length) = socket.recv(&mut buffer) else {
                sleep(Duration::from_millis(20)).await;
                continue;
            };
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            assert!(!text.lines().any(|line| not.contains(&line)), "{text} before {expected}");
            if text.lines().any(|line| line == expected) {
                return;
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_lines_of_a_job_carry_the_id_of_its_trace() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let site = Site::new("trace");
    let broker = ScriptedBroker::start(&site).await;
    let worker = postern_worker(&site, &[], &[]);
    let mut connection = broker.accept_subscribed().await;
    for (packet_id, a) in [(1, json!(1)), (2, json!("x"))] {
        let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
        let token = format!("T{packet_id}");
        let job = json!({"Input": {"a": a, "b": 2}, "TaskToken": token, "TraceParent": parent}).to_string();
        connection.publish(packet_id, &job).await;
        let answers = usize::from(packet_id) * 2;
        connection.serve_until(|log| log.published.len() == answers - 1).await;
        logged_times(&worker, "answer delivered", answers - 1).await;
        connection.publish(packet_id + 10, &job).await;
        connection.serve_until(|log| log.published.len() == answers).await;
    }
    logged_times(&worker, "answer delivered", 4).await;

    let log = logs(&worker);
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_jobs: Vec<_> = lines.iter().filter(|line| !line["job_id"].is_null()).collect();
    assert!(of_jobs.len() >= 8, "{log}");
    for line in of_jobs {
        assert_eq!(line["trace_id"], TRACE, "{line}");
    }
}
