//! The throughput of the worker's handlers `sql` and `http`, without a broker: the jobs go to the handlers of a
//! configuration's section as the worker's engine hands them on.
//!
//! `postern-handlers-bench CASE.json` runs the jobs of a case and prints the time and the CPU time that they took, in
//! seconds. `peers/handlers.py` does the same work with psycopg and httpx. `postern-handlers-bench serve` is the service
//! that both call; it prints its port.

use std::convert::Infallible;
use std::error::Error;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use postern_worker::config::handlers::{Section, Sections};
use postern_worker::{JobContext, Registry, TaskFailure};
use rustix::time::{ClockId, clock_gettime};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// The kind of all jobs.
const KIND: &str = "bench";

type BoxError = Box<dyn Error + Send + Sync>;

/// A case, as `run.py` writes it.
#[derive(Deserialize)]
struct Case {
    /// The handler's section of the configuration.
    section: Section,
    /// The input of every job. `NUMBER` in a text is replaced by a number that differs between jobs.
    input: Value,
    /// How many jobs run before the time is taken, so that connections are open.
    warm_up: u64,
    /// How many jobs are measured.
    jobs: u64,
    /// How many of them run at a time, each on a connection.
    connections: u64,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    match std::env::args().nth(1) {
        Some(word) if word == "serve" => serve().await,
        Some(file) => measure(serde_json::from_str(&std::fs::read_to_string(file)?)?).await,
        None => Err("usage: postern-handlers-bench CASE.json, or postern-handlers-bench serve".into()),
    }
}

async fn measure(case: Case) -> Result<(), BoxError> {
    let sections = Sections::from([(KIND.to_owned(), case.section.clone())]);
    let registry = Arc::new(Registry::new().with_sections(&sections)?);
    let case = Arc::new(case);
    run(&registry, &case, case.warm_up).await?;

    let (start, before) = (Instant::now(), cpu_time());
    run(&registry, &case, case.jobs).await?;
    let (seconds, cpu) = (start.elapsed(), cpu_time().saturating_sub(before));

    let measured = json!({"seconds": seconds.as_secs_f64(), "cpu": cpu.as_secs_f64()});
    writeln!(std::io::stdout(), "{measured}")?;
    Ok(())
}

/// Runs jobs, as many at a time as there are connections.
async fn run(registry: &Arc<Registry>, case: &Arc<Case>, jobs: u64) -> Result<(), BoxError> {
    let next = Arc::new(AtomicU64::new(0));
    let workers = (0..case.connections).map(|_| {
        let (registry, case, next) = (Arc::clone(registry), Arc::clone(case), Arc::clone(&next));
        tokio::spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= jobs {
                    return Ok::<_, TaskFailure>(());
                }
                registry.run(KIND, JobContext::for_test(&input(&case.input, number))).await?;
            }
        })
    });

    for worker in workers.collect::<Vec<_>>() {
        worker.await?.map_err(|failure| format!("{}: {}", failure.error(), failure.cause()))?;
    }
    Ok(())
}

/// The input of one job: 1 to 1,000 in the place of `NUMBER`.
fn input(template: &Value, number: u64) -> Value {
    let number = number % 1_000 + 1;
    let filled = |value: &Value| match value.as_str() {
        Some("NUMBER") => json!(number),
        Some(text) => json!(text.replace("NUMBER", &number.to_string())),
        None => value.clone(),
    };
    template.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), filled(value))).collect()
}

/// The CPU time of this process so far.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Serves `GET /large` with an order of about 100 KB, and everything else with one of about 200 bytes.
async fn serve() -> Result<(), BoxError> {
    let order = |lines: u32| {
        let line = |number| json!({"line": number, "article": "bolt, M8 × 40, zinc-plated", "price": "9.50"});
        let lines: Vec<_> = (0..lines).map(line).collect();
        Bytes::from(json!({"id": 7, "day": "2026-11-01", "lines": lines}).to_string())
    };
    let (small, large) = (order(2), order(1_400));

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?.port())?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (small, large) = (small.clone(), large.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let body = if request.uri().path() == "/large" { large.clone() } else { small.clone() };
            async move { Ok::<_, Infallible>(answer(body)) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

fn answer(body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
