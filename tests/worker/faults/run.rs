//! One run: starts broker, proxy and workers, does what the plan says, and waits for the last answer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fastrand::Rng;
use postern_local::Process;
use serde_json::Value;
use tokio::time::timeout;

use super::cloud::{Attempt, Cloud};
use super::field::Field;
use super::number;
use super::plan::{Batch, Fault, Job, Plan};
use super::proxy::Proxy;

/// The longest wait for one more answer, on a machine that has other work.
const TIMEOUT: Duration = Duration::from_mins(2);

/// How long each sync takes on a slow disk.
const SLOW: Duration = Duration::from_millis(150);

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
    /// Attempts that were without an answer when the broker lost its memory. Their jobs were published again as new
    /// attempts, as Step Functions does after a timeout.
    pub(crate) given_up: BTreeSet<Attempt>,
    /// How many jobs each worker of a group received.
    pub(crate) received: Vec<usize>,
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
    /// How many faults are left until the disk is quick again.
    slow_for: usize,
    /// The length of the first partition. All others take two seconds.
    long_partition: Option<Duration>,
    /// The longest wait for one more answer.
    timeout: Duration,
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
            slow_for: 0,
            long_partition: Some(Duration::from_secs(number("POSTERN_FAULT_PARTITION_SECONDS", 2))),
            timeout: TIMEOUT,
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

    /// The same run, on a disk that reports syncs which it has not done, and without patience for lost answers.
    pub(crate) fn on_a_forgetful_disk(self) -> Self {
        self.field.site().disk().forgetful(true).unwrap();
        Self { timeout: Duration::from_secs(10), ..self }
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
            self.quicken_disk();
        }

        self.until_open(0).await?;
        for worker in &mut self.workers {
            worker.stop();
        }
        if self.workers.len() > 1 {
            self.evidence.received =
                (0..self.workers.len()).map(|number| self.field.received(number)).collect();
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
            let open = self.open_attempts();
            if open.len() <= most {
                return Ok(());
            }
            let Ok(answer) = timeout(self.timeout, self.cloud.answers.recv()).await else {
                let attempts: Vec<_> = open.iter().map(Attempt::token).collect();
                return Err(format!("no answer to {} attempts: {}", attempts.len(), attempts.join(", ")));
            };
            self.note(answer.ok_or("the broker's client has ended")?)?;
        }
    }

    /// The attempts that must still be answered.
    fn open_attempts(&self) -> Vec<Attempt> {
        let open = self.evidence.answers.iter().filter(|(_, answers)| answers.is_empty());
        open.map(|(attempt, _)| attempt.clone())
            .filter(|attempt| !self.evidence.given_up.contains(attempt))
            .collect()
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
            Fault::Partition => {
                let time = self.long_partition.take().unwrap_or(Duration::from_secs(2));
                self.proxy.partition(time).await;
            }
            Fault::Duplicate => {
                let attempt = self.any_attempt();
                let message = attempt.message(&self.evidence.jobs[attempt.number]);
                self.cloud.publish(&message).await;
            }
            Fault::SecondAttempt => {
                let attempt = self.any_attempt();
                self.publish_later(&attempt, 1).await;
            }
            Fault::Reorder => {
                let attempt = self.any_attempt();
                for later in [3, 1, 2] {
                    self.publish_later(&attempt, later).await;
                }
            }
            Fault::RestartBroker => {
                self.broker.stop();
                self.broker = self.field.start_broker().await;
            }
            Fault::KillBroker => {
                self.forgetful_broker(|run| run.broker.kill()).await;
            }
            Fault::LoseSessions => {
                let lose = |run: &mut Self| {
                    run.broker.stop();
                    run.field.delete_sessions();
                };
                self.forgetful_broker(lose).await;
            }
            Fault::SlowDisk => {
                self.field.site().disk().slow(SLOW).unwrap();
                self.slow_for = 3;
            }
            Fault::FullDisk => self.fill_disk().await,
        }
    }

    /// Counts the faults after a slow disk, and makes it quick again after the second.
    fn quicken_disk(&mut self) {
        self.slow_for = self.slow_for.saturating_sub(1);
        if self.slow_for == 0 {
            self.field.site().disk().slow(Duration::ZERO).unwrap();
        }
    }

    /// Fills the disk for a second, and publishes jobs meanwhile.
    async fn fill_disk(&mut self) {
        self.field.site().disk().full(true).unwrap();
        for _ in 0..5 {
            let attempt = self.any_attempt();
            self.publish_later(&attempt, 1).await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.field.site().disk().full(false).unwrap();
    }

    /// Ends the broker with `end`, which loses messages, and starts it again. Then gives up every attempt that is
    /// without an answer, and publishes another one in its place, as Step Functions does after the heartbeat timeout.
    async fn forgetful_broker(&mut self, end: impl FnOnce(&mut Self)) {
        let logged: Vec<_> = self.workers.iter().map(|worker| worker.logs().len()).collect();
        let subscribed = *self.cloud.subscribed.borrow();
        end(self);
        self.broker = self.field.start_broker().await;

        for (worker, before) in self.workers.iter().zip(logged) {
            self.field.until_connected_again(worker, before).await;
        }
        self.cloud.subscribed.wait_for(|connections| *connections > subscribed).await.unwrap();

        for attempt in self.open_attempts() {
            self.evidence.given_up.insert(attempt.clone());
            let of_job = self.evidence.answers.keys().filter(|other| other.number == attempt.number);
            let latest = of_job.max().cloned().unwrap_or(attempt);
            self.publish_later(&latest, 1).await;
        }
    }

    async fn publish_later(&mut self, attempt: &Attempt, later: u32) {
        self.publish(Attempt { number: attempt.number, attempt: attempt.attempt + later }).await;
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
