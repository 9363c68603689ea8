//! One run: starts broker, proxy and workers, does what the plan says, and waits for the last answer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fastrand::Rng;
use postern_local::Process;
use serde_json::Value;
use tokio::time::timeout;

use super::cloud::{Attempt, Cloud};
use super::field::Field;
use super::plan::{Batch, Fault, Job, Plan};
use super::proxy::Proxy;

/// The longest wait for one more answer, on a machine that has other work.
const TIMEOUT: Duration = Duration::from_mins(2);

/// What a run left behind, for the checks.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    /// The jobs by number.
    pub(crate) jobs: Vec<Job>,
    /// Every attempt that was published, and the answers to it, ACCEPTED and heartbeats left out.
    pub(crate) answers: BTreeMap<Attempt, Vec<Value>>,
    /// How often a handler started, by `JobId`.
    pub(crate) starts_by_job: BTreeMap<String, usize>,
    /// How often a handler started, by idempotency key.
    pub(crate) starts_by_key: BTreeMap<String, usize>,
    /// The keys with a committed effect.
    pub(crate) effects: BTreeSet<String>,
    /// How many times a worker was killed.
    pub(crate) kills: usize,
}

/// A run in progress.
pub(crate) struct Run {
    field: Field,
    broker: Process,
    proxy: Proxy,
    workers: Vec<Process>,
    cloud: Cloud,
    random: Rng,
    evidence: Evidence,
    attempts_by_token: BTreeMap<String, Attempt>,
}

impl Run {
    /// Starts a broker and `workers` workers, which share the jobs as a group if there are several.
    pub(crate) async fn start(name: &str, seed: u64, workers: usize) -> Self {
        let field = Field::new(name);
        let broker = field.start_broker().await;
        let proxy = Proxy::start(field.broker_address()).await;
        let cloud = Cloud::connect(field.site()).await;
        let mut run = Self {
            field,
            broker,
            proxy,
            workers: Vec::new(),
            cloud,
            random: Rng::with_seed(seed.wrapping_add(1)),
            evidence: Evidence::default(),
            attempts_by_token: BTreeMap::new(),
        };

        for number in 0..workers {
            let worker = run.field.start_worker(number, workers > 1, run.proxy.port);
            run.workers.push(worker);
        }
        // Without a subscription there is no session in which the broker could keep the first jobs.
        for worker in &run.workers {
            run.field.until_subscribed(worker).await;
        }
        run
    }

    /// Does what the plan says, and returns what there is to check.
    pub(crate) async fn carry_out(mut self, plan: Plan) -> Result<Evidence, String> {
        for Batch { jobs, fault, open } in plan.batches {
            for job in jobs {
                let first = Attempt { number: job.number, attempt: 1 };
                self.evidence.jobs.push(job);
                self.publish(first).await;
            }
            self.until_open(open).await?;
            self.apply(fault).await;
        }

        self.until_open(0).await?;
        for worker in &mut self.workers {
            worker.stop();
        }
        self.field.read_traces(&mut self.evidence);
        Ok(self.evidence)
    }

    async fn publish(&mut self, attempt: Attempt) {
        let message = attempt.message(&self.evidence.jobs[attempt.number]);
        self.attempts_by_token.insert(attempt.token(), attempt.clone());
        self.evidence.answers.entry(attempt).or_default();
        self.cloud.publish(&message).await;
    }

    /// Collects answers until at most `most` attempts are without one.
    async fn until_open(&mut self, most: usize) -> Result<(), String> {
        loop {
            let open: Vec<_> =
                self.evidence.answers.iter().filter(|(_, answers)| answers.is_empty()).collect();
            if open.len() <= most {
                return Ok(());
            }
            let Ok(answer) = timeout(TIMEOUT, self.cloud.answers.recv()).await else {
                let attempts: Vec<_> = open.iter().map(|(attempt, _)| attempt.token()).collect();
                return Err(format!("no answer to {} attempts: {}", attempts.len(), attempts.join(", ")));
            };
            self.note(answer.ok_or("the broker's client has ended")?)?;
        }
    }

    fn note(&mut self, answer: Value) -> Result<(), String> {
        if matches!(answer["Status"].as_str(), Some("ACCEPTED" | "HEARTBEAT")) {
            return Ok(());
        }
        let attempt = answer["TaskToken"].as_str().and_then(|token| self.attempts_by_token.get(token));
        let attempt = attempt.ok_or_else(|| format!("an answer to no attempt: {answer}"))?;
        self.evidence.answers.entry(attempt.clone()).or_default().push(answer);
        Ok(())
    }

    async fn apply(&mut self, fault: Fault) {
        match fault {
            Fault::KillWorker => {
                let number = self.random.usize(..self.workers.len());
                self.workers[number].kill();
                self.evidence.kills += 1;
                self.start_again(number);
            }
            Fault::RestartWorker => {
                let number = self.random.usize(..self.workers.len());
                self.workers[number].stop();
                self.start_again(number);
            }
            Fault::CutConnections => self.proxy.cut(),
            Fault::Partition => self.proxy.partition(Duration::from_secs(2)).await,
            Fault::Duplicate => {
                let attempt = self.any_attempt();
                let message = attempt.message(&self.evidence.jobs[attempt.number]);
                self.cloud.publish(&message).await;
            }
            Fault::SecondAttempt => {
                let attempt = self.any_attempt();
                self.publish(Attempt { attempt: attempt.attempt + 1, ..attempt }).await;
            }
            Fault::RestartBroker => {
                self.broker.stop();
                self.broker = self.field.start_broker().await;
            }
        }
    }

    fn start_again(&mut self, number: usize) {
        self.workers[number] = self.field.start_worker(number, self.workers.len() > 1, self.proxy.port);
    }

    /// The latest attempt of a job that has been published.
    fn any_attempt(&mut self) -> Attempt {
        let number = self.random.usize(..self.evidence.jobs.len());
        let of_job = self.evidence.answers.keys().filter(|attempt| attempt.number == number);
        of_job.max().cloned().unwrap_or(Attempt { number, attempt: 1 })
    }
}
