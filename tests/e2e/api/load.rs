//! The API while ten workers report the progress of all their jobs each second.
//!
//! `make test` runs it with few jobs and checks counts. `make bench-console` runs it with 1,000 jobs for half a minute, and
//! prints how long the API takes to answer.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::Response;
use jiff::Timestamp;
use postern_jobs::{Jobs as _, NewJob};
use postern_testing::LoopbackServer;
use postern_types::{JobId, Tenant};
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::console::Console;
use crate::stack::{Stack, TIMEOUT};

const WORKERS: usize = 10;

/// How much happens: `POSTERN_CONSOLE_JOBS` and `POSTERN_CONSOLE_SECONDS` ask for more.
struct Load {
    jobs: u32,
    seconds: u32,
    /// The time between two messages of a worker. With few jobs there is nothing to measure, and so no reason to wait.
    pace: Duration,
}

impl Load {
    fn from_env() -> Self {
        let number = |name: &str| std::env::var(name).ok().and_then(|number| number.parse().ok());
        let jobs = number("POSTERN_CONSOLE_JOBS");
        let seconds = number("POSTERN_CONSOLE_SECONDS").unwrap_or(3);
        let pace = if jobs.is_some() { Duration::from_secs(1) } else { Duration::from_millis(1) };
        Self { jobs: jobs.unwrap_or(100), seconds, pace }
    }

    fn ids(&self) -> Vec<JobId> {
        (0..self.jobs).map(|number| JobId::parse(format!("{number:032x}")).unwrap()).collect()
    }
}

/// A proxy that counts the items of each publication.
fn proxy() -> (String, Arc<Mutex<Vec<usize>>>) {
    let publications = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&publications);
    let server = LoopbackServer::start(move |request| {
        let publication: Value = serde_json::from_slice(request.body()).unwrap();
        seen.lock().unwrap().push(publication["items"].as_array().unwrap().len());
        Response::new(Bytes::from("Published\n"))
    });
    (server.url(), publications)
}

/// Publishes what the workers report in each second. Returns the number of messages.
async fn report(stack: &Stack, load: &Load) -> usize {
    let (ids, mut ticks, mut messages) = (load.ids(), interval(load.pace), 0);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);

    for second in 1..=load.seconds {
        ticks.tick().await;
        let at = Timestamp::from_second(1_790_000_000 + i64::from(second)).unwrap();
        let percent = f64::from(second) / f64::from(load.seconds) * 100.0;
        for worker in ids.chunks(ids.len().div_ceil(WORKERS)) {
            let entries = worker.iter().map(|id| {
                json!({"JobId": id, "Percent": percent, "Data": {"row": second}, "Log": ["a line"], "At": at})
            });
            let message = json!({"Jobs": entries.collect::<Vec<_>>()});
            stack.publish_to("tenant1/progress", message.to_string()).await;
            messages += 1;
        }
    }
    messages
}

/// Asks the API for what the page shows, again and again. Returns how long each answer took.
async fn ask(console: &Console, token: &str, job: &JobId) -> Vec<(&'static str, Duration)> {
    let paths = [
        ("list of 50 jobs", "/jobs?limit=50".to_owned()),
        ("list by state", "/jobs?state=DISPATCHED&limit=50".to_owned()),
        ("job", format!("/jobs/{job}")),
        ("timeline", format!("/jobs/{job}/timeline")),
        ("log", format!("/jobs/{job}/log")),
    ];

    let mut times = Vec::new();
    loop {
        for (name, path) in &paths {
            let start = Instant::now();
            let (status, answer) = console.get(path, token).await;
            // A machine with too much to do makes the emulator's table slow, and the API asks to repeat the request.
            assert!([200, 503].contains(&status), "{path}: {status} {answer}");
            times.push((if status == 200 { *name } else { "503" }, start.elapsed()));
            if answer["percent"] == 100.0 {
                return times;
            }
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Prints the 50th and the 99th of a hundred answers of each kind.
fn print(mut times: Vec<(&'static str, Duration)>) {
    times.sort();
    for answers in times.chunk_by(|(one, _), (other, _)| one == other) {
        let of = |part: usize| answers[(answers.len() * part / 100).min(answers.len() - 1)].1;
        let (name, count) = (answers[0].0, answers.len());
        postern_local::say(format_args!("{name:<16} {count:>5} answers, p50 {:?}, p99 {:?}", of(50), of(99)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_answers_while_ten_workers_report_all_their_jobs_each_second() {
    let (load, tenant) = (Load::from_env(), Tenant::parse("tenant1").unwrap());
    let mut console = Console::start("api-load").await;
    let (url, publications) = proxy();
    let secret =
        console.stack.emulator.create_secret("grip", &json!({"GRIP_URL": url}).to_string()).await.unwrap();
    let deployment = console.deployment().parameter("GripSecretArn", &secret);
    console.stack.outputs = console.stack.emulator.deploy(&deployment).await.unwrap();

    let jobs = console.stack.jobs();
    let dispatched = load.ids().into_iter().map(|id| {
        let key = Some(format!("key of {id}"));
        let job = NewJob { idempotency_key: key, ..NewJob::new(tenant.clone(), id, Timestamp::now()) };
        let jobs = jobs.clone();
        async move { jobs.dispatched(&job).await.unwrap() }
    });
    stream::iter(dispatched).buffer_unordered(16).collect::<Vec<_>>().await;

    let (viewer, last) = (console.token("viewer1"), load.ids().pop().unwrap());
    let limit = TIMEOUT * 2 + load.pace * load.seconds;
    let answers = tokio::time::timeout(limit, ask(&console, &viewer, &last));
    let (messages, times) = tokio::join!(report(&console.stack, &load), answers);
    print(times.expect("the last job does not reach 100 %"));

    // All jobs end right, and each of their changes is announced, in publications of limited size.
    let end = Instant::now() + limit;
    for id in load.ids() {
        while jobs.get(&tenant, &id).await.unwrap().unwrap().percent != Some(100.0) {
            assert!(Instant::now() < end, "the job {id} is not at 100 %");
            sleep(Duration::from_millis(50)).await;
        }
    }
    let (announced, calls) = loop {
        let sizes = publications.lock().unwrap().clone();
        if sizes.iter().sum::<usize>() >= 2 * load.ids().len() {
            break (sizes.iter().sum::<usize>(), sizes);
        }
        assert!(Instant::now() < end, "some jobs were not announced: {sizes:?}");
        sleep(Duration::from_millis(50)).await;
    };
    let changes = load.ids().len() * (usize::try_from(load.seconds).unwrap() + 1);
    assert!(announced <= 2 * changes && calls.iter().all(|items| *items <= 200), "{announced} {calls:?}");
    assert_eq!(messages, WORKERS * usize::try_from(load.seconds).unwrap());
    assert_eq!(console.stack.dead_letters().await, 0);
    println!("{} jobs, {messages} messages, {} publications with {announced} hints", load.jobs, calls.len());
}
