//! The API while ten workers report the progress of all their jobs each second.
//!
//! `make test` runs it with few jobs and checks counts. `make bench-console` runs it with 1,000 jobs and thirty reports of
//! each. The workers report each second if the emulator's table keeps up, and otherwise as often as it does: the bench
//! prints how many updates a second the table took, and how long the API took to answer before and meanwhile.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::Response;
use jiff::Timestamp;
use postern_jobs::{DynamoJobs, JobItem, Jobs as _, NewJob};
use postern_testing::LoopbackServer;
use postern_types::{JobId, Tenant};
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::console::Console;
use crate::stack::{Stack, TIMEOUT};

pub(super) const WORKERS: usize = 10;

/// How long the page may wait for an answer.
pub(super) const LIMIT: Duration = Duration::from_millis(100);

/// How often the API is asked for the same before the workers report.
const ANSWERS_AT_REST: usize = 20;

/// How much happens: `POSTERN_CONSOLE_JOBS` and `POSTERN_CONSOLE_SECONDS` ask for more.
pub(super) struct Load {
    pub(super) jobs: u32,
    pub(super) seconds: u32,
    /// The shortest time between two messages of a worker. With few jobs there is nothing to measure, and so no reason to
    /// wait.
    pub(super) pace: Duration,
    /// Whether the times are of interest.
    pub(super) is_measured: bool,
}

/// How long answers took, by what they were answers to.
#[derive(Debug, Default)]
pub(super) struct Times(Vec<(&'static str, Duration)>);

impl Times {
    pub(super) fn add(&mut self, name: &'static str, time: Duration) {
        self.0.push((name, time));
    }

    /// The sorted times of each kind of answer.
    fn by_name(&self) -> Vec<(&'static str, Vec<Duration>)> {
        let mut sorted = self.0.clone();
        sorted.sort();
        let kinds = sorted.chunk_by(|(one, _), (other, _)| one == other);
        kinds.map(|times| (times[0].0, times.iter().map(|(_, time)| *time).collect())).collect()
    }

    /// The highest median of a kind of answer.
    pub(super) fn slowest_median(&self) -> Duration {
        self.by_name().iter().map(|(_, times)| times[times.len() / 2]).max().unwrap_or_default()
    }

    /// Prints the 50th and the 99th of a hundred answers of each kind.
    pub(super) fn print(&self, what: &str) {
        for (name, times) in self.by_name() {
            let of = |part: usize| times[(times.len() * part / 100).min(times.len() - 1)];
            postern_local::say(format_args!(
                "{what}: {name:<16} {:>5} answers, p50 {:.1?}, p99 {:.1?}",
                times.len(),
                of(50),
                of(99)
            ));
        }
    }
}

impl Load {
    pub(super) fn from_env() -> Self {
        let number = |name: &str| std::env::var(name).ok().and_then(|number| number.parse().ok());
        let jobs = number("POSTERN_CONSOLE_JOBS");
        let seconds = number("POSTERN_CONSOLE_SECONDS").unwrap_or(3);
        let pace = if jobs.is_some() { Duration::from_secs(1) } else { Duration::from_millis(1) };
        Self { jobs: jobs.unwrap_or(100), seconds, pace, is_measured: jobs.is_some() }
    }

    pub(super) fn ids(&self) -> Vec<JobId> {
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

/// Publishes what the workers report, and waits before each further report until the table has the last one. Returns how
/// long all reports took.
async fn report(stack: &Stack, load: &Load) -> Duration {
    let (ids, jobs, tenant) = (load.ids(), stack.jobs(), Tenant::parse("tenant1").unwrap());
    let workers: Vec<_> = ids.chunks(ids.len().div_ceil(WORKERS)).collect();
    let (start, mut ticks) = (Instant::now(), interval(load.pace));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);

    for second in 1..=load.seconds {
        ticks.tick().await;
        let at = Timestamp::from_second(1_790_000_000 + i64::from(second)).unwrap();
        let percent = f64::from(second) / f64::from(load.seconds) * 100.0;
        for worker in &workers {
            let entries = worker.iter().map(|id| {
                json!({"JobId": id, "Percent": percent, "Data": {"row": second}, "Log": ["a line"], "At": at})
            });
            let message = json!({"Jobs": entries.collect::<Vec<_>>()});
            stack.publish_to("tenant1/progress", message.to_string()).await;
        }

        for id in workers.iter().filter_map(|worker| worker.last()) {
            wait_for_row(load, (&jobs, &tenant), id, second).await;
        }
    }
    start.elapsed()
}

/// Waits until the table has the report of this second. A table that takes fewer than ten updates a second is broken and
/// not slow.
async fn wait_for_row(load: &Load, (jobs, tenant): (&DynamoJobs, &Tenant), id: &JobId, second: u32) {
    let is_there = |job: JobItem| job.data.is_some_and(|data| is_row(&data, second));
    let end = Instant::now() + TIMEOUT + Duration::from_secs(load.jobs.into()) / 10;
    // A saturated emulator does not answer every read in time.
    while !jobs.get(tenant, id).await.is_ok_and(|job| job.is_some_and(is_there)) {
        assert!(Instant::now() < end, "the job {id} has no report of second {second}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Whether the handler's data is that of this second. The emulator writes it with other spaces than the worker.
fn is_row(data: &str, second: u32) -> bool {
    serde_json::from_str::<Value>(data).unwrap() == json!({"row": second})
}

/// Asks the API for what the page shows. Returns the percentage of the job.
async fn ask(console: &Console, token: &str, job: &JobId, times: &mut Times) -> Option<f64> {
    let mut percent = None;
    for (name, path) in [
        ("list of 50 jobs", "/jobs?limit=50".to_owned()),
        ("list by state", "/jobs?state=DISPATCHED&limit=50".to_owned()),
        ("job", format!("/jobs/{job}")),
        ("timeline", format!("/jobs/{job}/timeline")),
        ("log", format!("/jobs/{job}/log")),
    ] {
        let start = Instant::now();
        let (status, answer) = console.get(&path, token).await;
        // A machine with too much to do makes the emulator's table slow, and the API asks to repeat the request.
        assert!([200, 503].contains(&status), "{path}: {status} {answer}");
        times.add(if status == 200 { name } else { "503" }, start.elapsed());
        percent = percent.or(answer["percent"].as_f64());
    }
    percent
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
    let (mut at_rest, mut under_load) = (Times::default(), Times::default());
    for _ in 0..ANSWERS_AT_REST {
        ask(&console, &viewer, &last, &mut at_rest).await;
    }
    let questions = async {
        while ask(&console, &viewer, &last, &mut under_load).await != Some(100.0) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let (took, ()) = tokio::join!(report(&console.stack, &load), questions);

    // All jobs end right, and each of their changes is announced, in publications of limited size.
    for id in load.ids() {
        wait_for_row(&load, (&jobs, &tenant), &id, load.seconds).await;
        assert_eq!(jobs.get(&tenant, &id).await.unwrap().unwrap().percent, Some(100.0));
    }
    let end = Instant::now() + TIMEOUT * 2;
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
    assert_eq!(console.stack.dead_letters().await, 0);

    at_rest.print("the stack at rest");
    under_load.print("the stack under load");
    let updates = load.jobs * load.seconds;
    let rate = f64::from(updates) / took.as_secs_f64();
    postern_local::say(format_args!(
        "{} jobs, {} reports each: {updates} updates in {took:.1?}, {rate:.0} a second; {} publications with {announced} hints",
        load.jobs,
        load.seconds,
        calls.len()
    ));
    if rate < 0.9 * f64::from(load.jobs) / load.pace.as_secs_f64() && load.is_measured {
        postern_local::say(format_args!(
            "The emulator's table did not take {} updates a second: the times under load are those of a saturated emulator.",
            load.jobs
        ));
    }
}
