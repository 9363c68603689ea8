//! Serves the worker's state on a loopback address: `/healthz`, `/readyz` and `/metrics`.
//!
//! - `/healthz` is 200 while the worker can do its work, and 503 with the reasons when a supervisor should act.
//! - `/readyz` is 200 while the worker takes new jobs: it is healthy, connected, and neither paused nor stopping.
//! - `/metrics` has the counters and the state in the text format of Prometheus.
//!
//! There is no authentication, which is why only loopback addresses are accepted.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::health::{Counter, Health};

/// The content type of the text format, version 0.0.4.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Listens on `address` and serves `health` until the process ends.
pub(crate) async fn serve(address: SocketAddr, health: Health) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    tracing::info!(%address, "serving /healthz, /readyz and /metrics");

    tokio::spawn(async move {
        loop {
            // A failed accept (no file descriptors left) concerns one client: the next one may have more luck.
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            };
            let health = health.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let response = respond(request.method(), request.uri().path(), &health);
                async move { Ok::<_, Infallible>(response) }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    Ok(())
}

fn respond(method: &Method, path: &str, health: &Health) -> Response<Full<Bytes>> {
    if method != Method::GET && method != Method::HEAD {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "use GET\n".into());
    }
    match path {
        "/healthz" => verdict(&health.problems()),
        "/readyz" => verdict(&health.reasons_not_ready()),
        "/metrics" => {
            let mut response = plain(StatusCode::OK, metrics(health));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PROMETHEUS));
            response
        }
        _ => plain(StatusCode::NOT_FOUND, "there are /healthz, /readyz and /metrics\n".into()),
    }
}

fn verdict(reasons: &[impl ToString]) -> Response<Full<Bytes>> {
    if reasons.is_empty() {
        return plain(StatusCode::OK, "ok\n".into());
    }
    let reasons: String = reasons.iter().map(|reason| reason.to_string() + "\n").collect();
    plain(StatusCode::SERVICE_UNAVAILABLE, reasons)
}

fn plain(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
}

/// The metrics in the text format of Prometheus.
fn metrics(health: &Health) -> String {
    let mut text = String::new();
    for counter in Counter::ALL {
        let (name, help) = describe(counter);
        metric(&mut text, &format!("{name}_total"), "counter", help, health.count(counter));
    }

    let gauges = [
        ("healthy", "1 while the worker can do its work.", health.problems().is_empty()),
        ("connected", "1 while the broker has accepted the connection.", health.is_connected()),
        ("paused", "1 while an operator has paused the worker.", health.is_paused()),
    ];
    for (name, help, value) in gauges {
        metric(&mut text, name, "gauge", help, value.into());
    }
    metric(&mut text, "slots", "gauge", "How many jobs run at a time.", health.slots() as u64);
    metric(
        &mut text,
        "stuck_handlers",
        "gauge",
        "Slots held by handlers that did not end after their deadline.",
        health.stuck() as u64,
    );
    text
}

fn metric(text: &mut String, name: &str, kind: &str, help: &str, value: u64) {
    let name = format!("postern_worker_{name}");
    // Writing to a String cannot fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
}

/// A counter's name, without prefix and suffix, and its help text.
fn describe(counter: Counter) -> (&'static str, &'static str) {
    match counter {
        Counter::Received => ("jobs_received", "Jobs that arrived for the first time."),
        Counter::Redelivered => ("jobs_redelivered", "Deliveries of a job that the journal already held."),
        Counter::Invalid => ("messages_invalid", "Messages that are not jobs."),
        Counter::Started => ("handlers_started", "Handlers started."),
        Counter::Joined => ("attempts_joined", "Attempts that share the run of an earlier attempt."),
        Counter::Remembered => {
            ("answers_remembered", "Jobs answered with a remembered result instead of a run.")
        }
        Counter::Succeeded => ("jobs_succeeded", "Jobs answered with a result."),
        Counter::Failed => ("jobs_failed", "Jobs answered with a failure."),
        Counter::Cancelled => ("jobs_cancelled", "Jobs answered with their cancellation."),
        Counter::Sent => ("answers_sent", "Answers that the broker acknowledged."),
        Counter::Refused => ("answers_refused", "Publishes of answers that the broker refused."),
        Counter::JournalRequests => ("journal_requests", "Requests to the journal."),
        Counter::JournalCommits => ("journal_commits", "Transactions of the journal; each costs one sync."),
        Counter::JournalFailures => ("journal_failures", "Transactions of the journal that failed."),
        Counter::JournalMicroseconds => {
            ("journal_microseconds", "Time that the journal's transactions took, syncs included.")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str, health: &Health) -> StatusCode {
        respond(&Method::GET, path, health).status()
    }

    #[test]
    fn a_worker_that_is_not_connected_is_healthy_but_not_ready() {
        let health = Health::new();
        assert_eq!(get("/healthz", &health), StatusCode::OK);
        assert_eq!(get("/readyz", &health), StatusCode::SERVICE_UNAVAILABLE);

        health.set_connected(true);
        assert_eq!(get("/readyz", &health), StatusCode::OK);
    }

    #[test]
    fn a_broken_journal_fails_both() {
        let health = Health::new();
        health.set_connected(true);
        health.set_journal_problem(Some("/state: disk full".into()));
        assert_eq!(get("/healthz", &health), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(get("/readyz", &health), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    fn metrics_have_one_sample_a_name_with_help_and_type() {
        let health = Health::new();
        health.add(Counter::Received, 3);
        let text = metrics(&health);
        assert!(text.contains("\npostern_worker_jobs_received_total 3\n"), "{text}");

        let names: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let unique: std::collections::BTreeSet<_> = names.iter().map(|line| line.split(' ').next()).collect();
        assert_eq!(names.len(), unique.len(), "{text}");
        assert_eq!(text.matches("# HELP ").count(), names.len());
        assert_eq!(text.matches("# TYPE ").count(), names.len());
    }

    #[test]
    fn other_paths_and_methods_are_refused_by_name() {
        let health = Health::new();
        assert_eq!(get("/", &health), StatusCode::NOT_FOUND);
        assert_eq!(respond(&Method::POST, "/healthz", &health).status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}
