//! Random interleavings of deliveries, redeliveries and crashes, on a real journal.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;

use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::task::yield_now;

use super::bench::{Bench, Broker, Do, TIMEOUT, id, our_job};
use super::*;
use crate::handler::{JobContext, Policy};
use tokio::runtime::Handle;

/// What happens next to the worker.
#[derive(Debug, Clone)]
enum Event {
    /// The broker delivers the job with this number, for the first time or again.
    Deliver(u8),
    /// The worker's tasks take this many steps.
    Steps(u8),
    /// The process dies and another one starts.
    Crash,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..8_u8).prop_map(Event::Deliver),
        4 => (0..40_u8).prop_map(Event::Steps),
        1 => Just(Event::Crash),
    ]
}

/// How often a handler was started, by job id.
type Starts = Arc<Mutex<HashMap<String, usize>>>;

/// A handler that takes a few steps.
fn counted(policy: Policy, starts: &Starts) -> Do<impl Fn(JobContext) -> BoxedRun + use<>> {
    let starts = Arc::clone(starts);
    Do(policy, move |job: JobContext| -> BoxedRun {
        *starts.lock().unwrap().entry(job.job_id().to_string()).or_default() += 1;
        Box::pin(async move {
            for _ in 0..5 {
                yield_now().await;
            }
            Ok(json!(job.idempotency_key()))
        })
    })
}

type BoxedRun = std::pin::Pin<Box<dyn Future<Output = Result<Value, crate::TaskFailure>> + Send>>;

fn registry(starts: &Starts) -> Registry {
    Registry::new()
        .on("once", counted(Policy::Once, starts))
        .on("idempotent", counted(Policy::Idempotent, starts))
        .on("exactly-once", counted(Policy::ExactlyOnce, starts))
}

fn token(number: u8) -> String {
    format!("token-{number}")
}

/// The jobs 0 to 5 stand alone. The jobs 6 and 7 are two attempts of one task.
fn job(number: u8) -> String {
    let kind = ["once", "idempotent", "exactly-once"][usize::from(number % 3)];
    let rest = match number {
        6 | 7 => r#","Kind":"exactly-once","IdempotencyKey":"shared""#.to_owned(),
        _ => format!(r#","Kind":"{kind}""#),
    };
    our_job(&token(number), &rest)
}

/// Runs one process through events up to its crash. Returns the events that are left.
fn live<'a>(directory: &Path, broker: &Broker, starts: &Starts, mut events: &'a [Event]) -> &'a [Event] {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let bench = Bench::open(directory, broker.clone(), registry(starts), 2, Handle::current());
        while let Some((event, rest)) = events.split_first() {
            events = rest;
            match event {
                Event::Crash => return events,
                Event::Deliver(number) => bench.send(u32::from(*number), &job(*number)),
                Event::Steps(steps) => {
                    for _ in 0..*steps {
                        yield_now().await;
                    }
                }
            }
        }
        events
    })
}

/// Starts a last process, to which the broker delivers again what was not acknowledged, and waits for an answer to
/// each delivered job.
fn settle(directory: &Path, broker: &Broker, starts: &Starts, delivered: &[u8]) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let bench = Bench::open(directory, broker.clone(), registry(starts), 2, Handle::current());
        let acknowledged = broker.0.acknowledged.borrow().clone();
        for number in delivered {
            let job_id = id(&token(*number)).to_string();
            if acknowledged.iter().all(|delivery| delivery.job_id != job_id) {
                bench.send(u32::from(*number), &job(*number));
            }
        }

        let mut published = broker.0.published.subscribe();
        let answered = |all: &Vec<Value>| {
            delivered.iter().all(|number| all.iter().any(|message| message["TaskToken"] == token(*number)))
        };
        timeout(TIMEOUT, published.wait_for(answered)).await.expect("an answer is lost").unwrap();
        assert_eq!(bench.stopped().await, Stopped::Requested);
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn no_crash_loses_an_answer_or_runs_a_job_twice(events in proptest::collection::vec(event(), 1..40)) {
        let directory = tempfile::tempdir().unwrap();
        let (broker, starts) = (Broker::default(), Starts::default());
        *broker.0.journal.lock().unwrap() = Some(directory.path().join("journal.sqlite"));

        let mut left = &events[..];
        while !left.is_empty() {
            left = live(directory.path(), &broker, &starts, left);
        }
        let delivered: Vec<u8> = events.iter().filter_map(|event| match event {
            Event::Deliver(number) => Some(*number),
            _ => None,
        }).collect();
        settle(directory.path(), &broker, &starts, &delivered);

        let published = broker.0.published.borrow();
        for number in delivered {
            let answers: Vec<_> =
                published.iter().filter(|message| message["TaskToken"] == token(number)).collect();
            prop_assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "one answer: {:?}", answers);
            let once = number < 6 && number % 3 == 0;
            let job_id = id(&token(number)).to_string();
            if once {
                prop_assert!(starts.lock().unwrap().get(&job_id).is_none_or(|starts| *starts == 1));
            }
            let expected = answers[0]["Status"] == "SUCCEEDED"
                || (once && answers[0]["Error"] == "Worker.Interrupted");
            prop_assert!(expected, "{}", answers[0]);
        }
    }
}
