//! What one run does, derived from its seed alone: the jobs, and the faults between them.

use fastrand::Rng;

/// A job of the run.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    /// The job's place in the run; it names the task token, the key and the result.
    pub(crate) number: usize,
    /// The kind, which is also the name of the handler's policy.
    pub(crate) kind: &'static str,
    /// How long the handler works.
    pub(crate) milliseconds: u64,
}

/// Something that goes wrong, or that an operator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL to one of the workers; a new one starts at once.
    KillWorker,
    /// SIGTERM to one of the workers; a new one starts after it has ended.
    RestartWorker,
    /// The connections between workers and broker are closed.
    CutConnections,
    /// Nothing passes between workers and broker for a while, though the connections stay open.
    Partition,
    /// A job that has been published is published again, as a broker does at QoS 1.
    Duplicate,
    /// A job that has been published is published as a new attempt: another task token, the same key.
    SecondAttempt,
    /// New attempts of a job arrive in another order than they were published in.
    Reorder,
    /// The broker ends and starts again.
    RestartBroker,
    /// SIGKILL to the broker, which loses what it has not saved.
    KillBroker,
    /// The broker ends and starts again without any session.
    LoseSessions,
    /// Each sync of the workers' journals takes long, until the second fault after this one.
    SlowDisk,
    /// The workers' disk is full for a while, during which jobs arrive.
    FullDisk,
}

impl Fault {
    fn is_of_network(self) -> bool {
        matches!(
            self,
            Self::CutConnections
                | Self::Partition
                | Self::RestartBroker
                | Self::KillBroker
                | Self::LoseSessions
        )
    }
}

/// Jobs that are published one after the other, and the fault that follows.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) jobs: Vec<Job>,
    pub(crate) fault: Fault,
    /// The fault comes when at most this many attempts are without an answer. As many as the batch has means: at
    /// once, while the worker still receives.
    pub(crate) open: usize,
}

/// What a run does.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) batches: Vec<Batch>,
}

impl Plan {
    /// The plan of `seed`, with `jobs` jobs and only faults of `faults`.
    pub(crate) fn new(seed: u64, jobs: usize, faults: &[Fault]) -> Self {
        let mut random = Rng::with_seed(seed);
        let mut numbers = 0..jobs;
        let mut batches = Vec::new();
        // Each fault of the network makes the worker wait longer before it connects again, up to a minute.
        let mut network_faults_left = 4 + jobs / 500;

        while !numbers.is_empty() {
            let size = random.usize(1..=jobs.div_ceil(12));
            let jobs: Vec<_> = numbers.by_ref().take(size).map(|number| job(number, &mut random)).collect();
            let mut fault = faults[random.usize(..faults.len())];
            if fault.is_of_network() {
                fault = if network_faults_left == 0 { Fault::Duplicate } else { fault };
                network_faults_left = network_faults_left.saturating_sub(1);
            }
            let open = if random.bool() { jobs.len() } else { jobs.len() / 2 };
            batches.push(Batch { jobs, fault, open });
        }
        Self { batches }
    }
}

fn job(number: usize, random: &mut Rng) -> Job {
    let kind = ["once", "idempotent", "exactly-once"][random.usize(..3)];
    Job { number, kind, milliseconds: random.u64(0..40) }
}
