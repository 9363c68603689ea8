use std::sync::atomic::{AtomicUsize, Ordering};

use postern_types::{JobId, TaskToken};
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::*;
use crate::Handler;

/// Keeps what is published, and answers each publish with the next of `replies`, else with a PUBACK.
#[derive(Clone, Default)]
struct Broker(Arc<BrokerState>);

#[derive(Default)]
struct BrokerState {
    published: watch::Sender<Vec<Value>>,
    acknowledged: watch::Sender<Vec<u32>>,
    replies: Mutex<Vec<Result<(), PublishError>>>,
}

impl Link for Broker {
    type Receipt = u32;

    async fn publish(&self, _: &Topic, payload: Bytes, _: Priority) -> Result<(), PublishError> {
        assert!(payload.len() <= IOT_PAYLOAD_BYTES);
        let reply = self.0.replies.lock().unwrap().pop().unwrap_or(Ok(()));
        if reply.is_ok() {
            let message = serde_json::from_slice(&payload).unwrap();
            self.0.published.send_modify(|published| published.push(message));
        }
        reply
    }

    fn acknowledge(&self, receipt: u32) {
        self.0.acknowledged.send_modify(|acknowledged| acknowledged.push(receipt));
    }

    async fn close(&self) {}
}

/// An engine at work, with `concurrency` slots and a drain of ten seconds.
struct Bench {
    broker: Broker,
    incoming: mpsc::Sender<Incoming<u32>>,
    stop: CancellationToken,
    engine: JoinHandle<Stopped>,
}

impl Bench {
    fn start(registry: Registry, concurrency: usize) -> Self {
        let (incoming, receiver) = mpsc::channel(100);
        let (broker, stop) = (Broker::default(), CancellationToken::new());
        let engine = Engine {
            link: broker.clone(),
            registry,
            default_kind: "work".into(),
            answer_topic: Topic::parse("t/to/lambda").unwrap(),
            concurrency,
            drain: Duration::from_secs(10),
            handlers: Handle::current(),
        };
        let engine = tokio::spawn(engine.run(receiver, stop.clone()));
        Self { broker, incoming, stop, engine }
    }

    fn send(&self, receipt: u32, payload: &str) {
        let payload = Bytes::copy_from_slice(payload.as_bytes());
        self.incoming.try_send(Incoming::Message { payload, receipt }).unwrap();
    }

    /// Waits until `count` messages with this status are published; they are returned.
    async fn answers(&self, status: &str, count: usize) -> Vec<Value> {
        let mut published = self.broker.0.published.subscribe();
        let of_status = |all: &[Value]| -> Vec<Value> {
            all.iter().filter(|message| message["Status"] == status).cloned().collect()
        };
        of_status(&published.wait_for(|all| of_status(all).len() >= count).await.unwrap())
    }

    async fn acknowledged(&self, count: usize) -> Vec<u32> {
        let mut acknowledged = self.broker.0.acknowledged.subscribe();
        acknowledged.wait_for(|all| all.len() >= count).await.unwrap().clone()
    }

    fn published(&self) -> usize {
        self.broker.0.published.borrow().len()
    }

    async fn stopped(self) -> Stopped {
        self.stop.cancel();
        self.engine.await.unwrap()
    }
}

/// A handler made of a closure.
struct Do<F>(F);

impl<F, R> Handler for Do<F>
where
    F: Fn(JobContext) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Value, TaskFailure>> + Send + 'static,
{
    type Output = Value;

    async fn run(&self, job: JobContext) -> Result<Value, TaskFailure> {
        (self.0)(job).await
    }
}

fn work<F, R>(work: F) -> Registry
where
    F: Fn(JobContext) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Value, TaskFailure>> + Send + 'static,
{
    Registry::new().on("work", Do(work))
}

fn echo() -> Registry {
    work(async |job: JobContext| job.input())
}

fn our_job(token: &str, rest: &str) -> String {
    format!(r#"{{"TaskToken":"{token}","JobId":"x","Input":{{"n":1}}{rest}}}"#)
}

fn id(token: &str) -> JobId {
    TaskToken::parse(token).unwrap().job_id()
}

#[tokio::test(start_paused = true)]
async fn a_job_is_acknowledged_accepted_and_answered() {
    let bench = Bench::start(echo(), 1);
    bench.send(7, &our_job("abc", ""));
    let answer = &bench.answers("SUCCEEDED", 1).await[0];
    assert_eq!(
        *answer,
        json!({"TaskToken": "abc", "JobId": id("abc").as_str(), "Status": "SUCCEEDED", "result": {"n": 1}})
    );
    assert_eq!(bench.answers("ACCEPTED", 1).await[0]["TaskToken"], "abc");
    assert_eq!(bench.acknowledged(1).await, [7]);
    assert_eq!(bench.stopped().await, Stopped::Asked);
}

#[tokio::test(start_paused = true)]
async fn the_samples_functions_are_sent_results_only() {
    let bench = Bench::start(echo(), 1);
    bench.send(1, r#"{"Input":{"a":15},"TaskToken":"abc"}"#);
    bench.answers("SUCCEEDED", 1).await;
    assert_eq!(bench.published(), 1, "ACCEPTED would close the sample's task");
}

#[tokio::test(start_paused = true)]
async fn the_acknowledgement_does_not_wait_for_the_job() {
    let bench = Bench::start(work(async |_| std::future::pending().await), 1);
    bench.send(1, &our_job("abc", ""));
    assert_eq!(bench.acknowledged(1).await, [1]);
    assert_eq!(bench.published(), 1, "accepted, not answered");
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_delivered_twice_runs_once() {
    let (runs, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let (counted, gate) = (Arc::clone(&runs), Arc::clone(&go));
    let bench = Bench::start(
        work(move |_| {
            let (runs, go) = (Arc::clone(&counted), Arc::clone(&gate));
            async move {
                runs.fetch_add(1, Ordering::SeqCst);
                go.notified().await;
                Ok(json!(57))
            }
        }),
        4,
    );
    bench.send(1, &our_job("abc", ""));
    bench.send(2, &our_job("abc", ""));
    bench.acknowledged(2).await;
    go.notify_one();
    bench.answers("SUCCEEDED", 1).await;
    bench.send(3, &our_job("abc", ""));
    let answers = bench.answers("SUCCEEDED", 2).await;
    assert_eq!(answers[0], answers[1], "the first answer, again");
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn heartbeats_go_out_while_the_handler_runs() {
    let slow = work(async |_| {
        sleep(Duration::from_secs(31)).await;
        Ok(Value::Null)
    });
    let bench = Bench::start(slow, 1);
    bench.send(1, &our_job("abc", r#","HeartbeatSeconds":9"#));
    bench.answers("SUCCEEDED", 1).await;
    assert_eq!(bench.answers("HEARTBEAT", 10).await.len(), 10, "one every three seconds");
}

#[tokio::test(start_paused = true)]
async fn a_failure_keeps_its_name_and_cause() {
    let bench = Bench::start(work(async |_| Err(TaskFailure::new("Db.Locked", "row 7"))), 1);
    bench.send(1, &our_job("abc", ""));
    let answer = &bench.answers("FAILED", 1).await[0];
    assert_eq!((&answer["Error"], &answer["Cause"]), (&json!("Db.Locked"), &json!("row 7")));
    assert_eq!((&answer["result"], &answer["exception"]), (&Value::Null, &json!("Db.Locked")));
}

/// The error of the answer that `registry` gives to `message`.
async fn error_of(registry: Registry, message: &str) -> String {
    let bench = Bench::start(registry, 1);
    bench.send(1, message);
    bench.answers("FAILED", 1).await[0]["Error"].as_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn whatever_goes_wrong_has_a_name() {
    let big = || work(async |_| Ok(Value::from("x".repeat(IOT_PAYLOAD_BYTES))));
    let panicking =
        work(async |job: JobContext| if job.is_cancelled() { Ok(Value::Null) } else { panic!("on purpose") });
    assert_eq!(error_of(big(), &our_job("abc", "")).await, "Worker.ResultTooLarge");
    assert_eq!(error_of(panicking, &our_job("abc", "")).await, "Worker.HandlerPanicked");
    assert_eq!(error_of(echo(), &our_job("abc", r#","Kind":"other""#)).await, "Worker.UnknownKind");
    assert_eq!(error_of(echo(), r#"{"TaskToken":"abc"}"#).await, "Worker.InvalidJob");
    let typed = work(async |job: JobContext| job.input::<String>().map(Value::from));
    assert_eq!(error_of(typed, &our_job("abc", "")).await, "Worker.InvalidInput");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_names_no_task_goes_the_way_to_the_dead_letter_queue() {
    let bench = Bench::start(echo(), 1);
    bench.send(1, "not json");
    let answer = &bench.answers("FAILED", 1).await[0];
    assert_eq!(answer["TaskToken"], Value::Null);
    assert_eq!(answer["PayloadBase64"], BASE64.encode("not json"));
    assert!(answer["Cause"].as_str().unwrap().contains("not JSON"));
    bench.send(2, &"x".repeat(IOT_PAYLOAD_BYTES));
    assert_eq!(bench.answers("FAILED", 2).await[1]["Bytes"], IOT_PAYLOAD_BYTES);
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_published_until_the_broker_has_it() {
    let bench = Bench::start(echo(), 1);
    *bench.broker.0.replies.lock().unwrap() = vec![
        Err(PublishError::Refused("QuotaExceeded".into())),
        Err(PublishError::Refused("NotAuthorized".into())),
    ];
    bench.send(1, r#"{"Input":1,"TaskToken":"abc"}"#);
    bench.answers("SUCCEEDED", 1).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_the_broker_finds_too_large_becomes_a_failure() {
    let bench = Bench::start(echo(), 1);
    *bench.broker.0.replies.lock().unwrap() = vec![Err(PublishError::TooLarge { bytes: 900, most: 800 })];
    bench.send(1, r#"{"Input":1,"TaskToken":"abc"}"#);
    assert_eq!(bench.answers("FAILED", 1).await[0]["Error"], "Worker.ResultTooLarge");
}

#[tokio::test(start_paused = true)]
async fn no_more_handlers_run_than_there_are_slots() {
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&most);
    let bench = Bench::start(
        work(move |_| {
            let (running, most) = (Arc::clone(&running), Arc::clone(&seen));
            async move {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                sleep(Duration::from_secs(1)).await;
                running.fetch_sub(1, Ordering::SeqCst);
                Ok(Value::Null)
            }
        }),
        3,
    );
    for job in 0..10 {
        bench.send(job, &our_job(&job.to_string(), ""));
    }
    bench.answers("SUCCEEDED", 10).await;
    assert_eq!(most.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_running_jobs_end_and_gives_waiting_ones_back() {
    let slow = work(async |_| {
        sleep(Duration::from_secs(5)).await;
        Ok(Value::Null)
    });
    let bench = Bench::start(slow, 1);
    bench.send(1, &our_job("running", ""));
    bench.send(2, &our_job("waiting", ""));
    bench.answers("ACCEPTED", 2).await;
    let broker = bench.broker.clone();
    assert_eq!(bench.stopped().await, Stopped::Asked);
    let published = broker.0.published.borrow();
    let last = |token: &str| published.iter().rfind(|message| message["TaskToken"] == token).unwrap();
    assert_eq!(last("running")["Status"], "SUCCEEDED");
    assert_eq!(last("waiting")["Error"], "Worker.ShuttingDown");
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_does_not_end_in_the_drain_time_is_told_to_stop() {
    let stubborn = work(async |job: JobContext| {
        job.cancelled().await;
        Err(TaskFailure::new("Mine", "stopped half-way"))
    });
    let bench = Bench::start(stubborn, 1);
    bench.send(1, &our_job("abc", ""));
    bench.answers("ACCEPTED", 1).await;
    let broker = bench.broker.clone();
    bench.stopped().await;
    let published = broker.0.published.borrow();
    assert_eq!(published.last().unwrap()["Error"], "Worker.ShuttingDown");
}

#[tokio::test]
async fn a_job_that_nobody_waits_for_any_more_is_cut_off() {
    let never = || work(async |_| std::future::pending().await);
    let late = our_job("abc", r#","Deadline":"2020-01-01T00:00:00Z""#);
    assert_eq!(error_of(never(), &late).await, "Worker.DeadlineExceeded");
    let cancelled = work(async |job: JobContext| {
        job.cancelled().await;
        Ok(json!("in time after all"))
    });
    let bench = Bench::start(cancelled, 1);
    // A busy machine may start the job too late for a short deadline: then a longer one.
    for (token, millis) in [("short", 100), ("longer", 2_000), ("longest", 50_000)] {
        let deadline = Timestamp::now() + jiff::SignedDuration::from_millis(millis);
        bench.send(1, &our_job(token, &format!(r#","Deadline":"{deadline}""#)));
        let mut published = bench.broker.0.published.subscribe();
        let ended = |message: &Value| message["TaskToken"] == token && message["Status"] != "ACCEPTED";
        let published = published.wait_for(|all| all.iter().any(ended)).await.unwrap().clone();
        if published.iter().any(|message| message["result"] == "in time after all") {
            return;
        }
    }
    panic!("the handler was never told");
}

#[tokio::test(start_paused = true)]
async fn a_refused_subscription_ends_the_worker() {
    let bench = Bench::start(echo(), 1);
    bench.incoming.try_send(Incoming::SubscriptionRefused("no".into())).unwrap();
    assert_eq!(bench.engine.await.unwrap(), Stopped::SubscriptionRefused("no".into()));
}
