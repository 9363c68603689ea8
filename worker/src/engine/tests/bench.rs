//! A worker's engine between a broker in memory and a real journal.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use postern_types::limits::IOT_PAYLOAD_BYTES;
use postern_types::{JobId, TaskToken};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::*;
use crate::TaskFailure;
use crate::handler::{Handler, JobContext, Policy};
use crate::journal::Retention;
use crate::link::{ControlKind, ControlMessage, Guarantee, Priority, PublishError};

pub(super) const RETENTION: Retention = Retention { age: Duration::from_hours(24), bytes: 1_000_000 };

/// How long a test waits for what must come. The clock of most tests runs ahead while they wait.
pub(super) const TIMEOUT: Duration = Duration::from_hours(1);

/// Keeps what is published, and answers each publish with the next of `replies`, else with a PUBACK.
#[derive(Clone, Default)]
pub(super) struct Broker(pub(super) Arc<BrokerState>);

#[derive(Default)]
pub(super) struct BrokerState {
    /// The messages on the answer topic.
    pub(super) published: watch::Sender<Vec<Value>>,
    /// The messages on all other topics.
    pub(super) views: watch::Sender<Vec<(String, Value)>>,
    /// Whether cancellations may still be on their way.
    pub(super) unsettled: watch::Sender<bool>,
    /// Whether the worker has its control topics.
    pub(super) controlled: watch::Sender<u64>,
    pub(super) acknowledged: watch::Sender<Vec<Delivery>>,
    pub(super) replies: Mutex<Vec<Result<(), PublishError>>>,
    /// Publishes are never acknowledged.
    pub(super) unreachable: AtomicBool,
    /// The journal's file, once a test wants each acknowledgement checked against it.
    pub(super) journal: Mutex<Option<PathBuf>>,
}

pub(super) const ANSWERS: &str = "t/to/lambda";
pub(super) const PROGRESS: &str = "t/progress";
pub(super) const PRESENCE: &str = "t/workers/w";

/// Names one delivery; `job_id` is empty for a message that is not a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Delivery {
    pub(super) number: u32,
    pub(super) job_id: String,
}

impl Link for Broker {
    type Receipt = Delivery;

    async fn publish(
        &self,
        topic: &Topic,
        payload: Bytes,
        _: Priority,
        guarantee: Guarantee,
    ) -> Result<(), PublishError> {
        assert!(payload.len() <= IOT_PAYLOAD_BYTES);
        if self.0.unreachable.load(Ordering::SeqCst) {
            return std::future::pending().await;
        }
        if topic.as_str() != ANSWERS {
            let retained = topic.as_str() == PRESENCE;
            assert_eq!(guarantee, if retained { Guarantee::Retained } else { Guarantee::AtMostOnce });
            let message = (topic.to_string(), serde_json::from_slice(&payload).unwrap());
            self.0.views.send_modify(|views| views.push(message));
            return Ok(());
        }
        let reply = self.0.replies.lock().unwrap().pop().unwrap_or(Ok(()));
        if reply.is_ok() {
            let message = serde_json::from_slice(&payload).unwrap();
            self.0.published.send_modify(|published| published.push(message));
        }
        reply
    }

    fn acknowledge(&self, delivery: Delivery) {
        if let Some(file) = &*self.0.journal.lock().unwrap() {
            let known = delivery.job_id.is_empty() || is_durable(file, &delivery.job_id);
            assert!(known, "acknowledged before the journal had it");
        }
        self.0.acknowledged.send_modify(|acknowledged| acknowledged.push(delivery));
    }

    fn controlled(&self) -> watch::Receiver<u64> {
        self.0.controlled.subscribe()
    }

    fn unsettled(&self) -> watch::Receiver<bool> {
        self.0.unsettled.subscribe()
    }

    async fn close(&self) {}
}

/// Whether another process would find the job, or its answer, in the journal.
fn is_durable(file: &Path, job_id: &str) -> bool {
    let db = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let known =
        "SELECT count(*) FROM (SELECT job_id FROM jobs UNION SELECT job_id FROM answers) WHERE job_id = ?1";
    db.query_row(known, [job_id], |row| row.get::<_, i64>(0)).unwrap() == 1
}

/// An engine at work, with a drain time of ten seconds.
pub(super) struct Bench {
    pub(super) broker: Broker,
    pub(super) incoming: mpsc::Sender<Incoming<Delivery>>,
    pub(super) control: mpsc::Sender<ControlMessage<Delivery>>,
    pub(super) stop: CancellationToken,
    pub(super) health: Health,
    pub(super) pause: Pause,
    pub(super) journal: Journal,
    pub(super) engine: JoinHandle<Stopped>,
    own_directory: Option<TempDir>,
}

impl Bench {
    /// An engine with `concurrency` slots and a new journal.
    pub(super) fn start(registry: Registry, concurrency: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let bench = Self::open(directory.path(), Broker::default(), registry, concurrency, Handle::current());
        Self { own_directory: Some(directory), ..bench }
    }

    /// An engine on the journal of `directory`. The directory must outlive it.
    pub(super) fn open(
        directory: &Path,
        broker: Broker,
        registry: Registry,
        concurrency: usize,
        handlers: Handle,
    ) -> Self {
        let (incoming, jobs) = mpsc::channel(100);
        let (control, control_receiver) = mpsc::channel(100);
        let inbox = Inbox { jobs, control: control_receiver };
        let (health, stop) = (Health::new(), CancellationToken::new());
        let (journal, recovered) = Journal::inline(directory, RETENTION, health.clone());
        let pause = Pause::new(directory, health.clone());

        let engine = Engine {
            link: broker.clone(),
            registry,
            default_kind: "work".into(),
            answer_topic: Topic::parse(ANSWERS).unwrap(),
            progress_topic: Topic::parse(PROGRESS).unwrap(),
            about: about(),
            concurrency,
            max_jobs: 50,
            drain: Duration::from_secs(10),
            threads: Threads::of(handlers),
            state_dir: directory.to_owned(),
            journal: journal.clone(),
            claims: ClaimOptions::for_test(directory),
            pause: pause.clone(),
            health: health.clone(),
        };
        let engine = tokio::spawn(engine.run(inbox, recovered, stop.clone()));
        Self { broker, incoming, control, stop, health, pause, journal, engine, own_directory: None }
    }

    /// The state directory of a bench that was started with a new one.
    pub(super) fn directory(&self) -> &Path {
        self.own_directory.as_ref().unwrap().path()
    }

    pub(super) fn send(&self, number: u32, payload: &str) {
        let token = serde_json::from_str::<Value>(payload)
            .ok()
            .and_then(|job| job["TaskToken"].as_str().map(|token| id(token).to_string()));
        let receipt = Delivery { number, job_id: token.unwrap_or_default() };
        let payload = Bytes::copy_from_slice(payload.as_bytes());
        self.incoming.try_send(Incoming::Message { payload, receipt }).unwrap();
    }

    /// Sends a control message.
    pub(super) fn control(&self, number: u32, kind: ControlKind, payload: &str) {
        self.control_for(number, kind, payload, None);
    }

    /// Sends a control message that expires.
    pub(super) fn control_for(
        &self,
        number: u32,
        kind: ControlKind,
        payload: &str,
        expires_in: Option<Duration>,
    ) {
        let payload = Bytes::copy_from_slice(payload.as_bytes());
        let receipt = Delivery { number, job_id: String::new() };
        self.control.try_send(ControlMessage { kind, payload, expires_in, receipt }).unwrap();
    }

    /// Waits until `count` messages with this status are published, and returns them.
    pub(super) async fn answers(&self, status: &str, count: usize) -> Vec<Value> {
        let mut published = self.broker.0.published.subscribe();
        let of_status = |all: &[Value]| -> Vec<Value> {
            all.iter().filter(|message| message["Status"] == status).cloned().collect()
        };
        let published = timeout(TIMEOUT, published.wait_for(|all| of_status(all).len() >= count));
        of_status(&published.await.expect("the answers do not come").unwrap())
    }

    /// Waits until `count` messages are acknowledged, and returns their numbers.
    pub(super) async fn acknowledged(&self, count: usize) -> Vec<u32> {
        let mut acknowledged = self.broker.0.acknowledged.subscribe();
        let all = timeout(TIMEOUT, acknowledged.wait_for(|all| all.len() >= count));
        let all = all.await.expect("the acknowledgements do not come").unwrap().clone();
        all.iter().map(|delivery| delivery.number).collect()
    }

    /// Waits until `count` messages on the topic satisfy the condition, and returns them.
    pub(super) async fn views(
        &self,
        topic: &str,
        count: usize,
        condition: impl Fn(&Value) -> bool,
    ) -> Vec<Value> {
        let of_topic = |views: &[(String, Value)]| -> Vec<Value> {
            let matching = views.iter().filter(|(of, message)| of == topic && condition(message));
            matching.map(|(_, message)| message.clone()).collect()
        };
        let mut views = self.broker.0.views.subscribe();
        let enough = timeout(TIMEOUT, views.wait_for(|views| of_topic(views).len() >= count));
        of_topic(&enough.await.expect("the messages do not come").unwrap())
    }

    pub(super) fn published(&self) -> usize {
        self.broker.0.published.borrow().len()
    }

    pub(super) async fn stopped(self) -> Stopped {
        self.stop.cancel();
        self.engine.await.unwrap()
    }
}

fn about() -> About {
    About {
        worker: "w".into(),
        version: "1.2.3".into(),
        kinds: vec!["work".into()],
        group: None,
        certificate: None,
        topic: Topic::parse(PRESENCE).unwrap(),
        started_at: jiff::Timestamp::UNIX_EPOCH,
    }
}

/// A handler made of a closure.
pub(super) struct Do<F>(pub(super) Policy, pub(super) F);

impl<F, R> Handler for Do<F>
where
    F: Fn(JobContext) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Value, TaskFailure>> + Send + 'static,
{
    type Output = Value;

    fn policy(&self) -> Policy {
        self.0
    }

    async fn run(&self, job: JobContext) -> Result<Value, TaskFailure> {
        (self.1)(job).await
    }
}

/// A registry with one handler that runs once.
pub(super) fn work<F, R>(work: F) -> Registry
where
    F: Fn(JobContext) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Value, TaskFailure>> + Send + 'static,
{
    Registry::new().on("work", Do(Policy::Once, work))
}

pub(super) fn echo() -> Registry {
    work(async |job: JobContext| job.input())
}

pub(super) fn our_job(token: &str, rest: &str) -> String {
    format!(r#"{{"TaskToken":"{token}","JobId":"x","Input":{{"n":1}}{rest}}}"#)
}

pub(super) fn id(token: &str) -> JobId {
    TaskToken::parse(token).unwrap().job_id()
}
