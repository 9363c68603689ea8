//! The most jobs a second that one connection carries, for as long as `POSTERN_SOAK_SECONDS` says (default 5; `make soak`
//! takes 600).
//!
//! A short run checks only that every job is answered. A run of a minute or more also checks that memory and lag do not
//! grow, and that the journal costs at most a millisecond a job. The figures are printed.

use std::time::Duration;

use postern_local::Process;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::scripted_broker::{Connection, ScriptedBroker};
use crate::site::Site;

/// The jobs a second that one connection carries, as docs/worker-connection.md says.
const RATE: u32 = 80;
/// The length from which a run is long enough to judge memory, lag and the journal's cost.
const LONG: u64 = 60;

/// What a run has measured.
struct Figures {
    /// The time from a job's PUBLISH to its answer's, in the order of the jobs.
    latencies: Vec<Duration>,
    /// The worker's resident memory in kilobytes, every two seconds.
    memory: Vec<u64>,
    /// The transactions of the journal.
    commits: u64,
    /// The time that the transactions took.
    journal: Duration,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_at_its_limit_falls_behind_in_nothing() {
    let seconds = super::faults::number("POSTERN_SOAK_SECONDS", 5);
    let site = Site::new("soak");
    let broker = ScriptedBroker::start(&site).await;
    let status = format!("127.0.0.1:{}", site.unused_port());
    let worker = site.worker("worker.log", &["--status-address", &status]);
    let mut connection = broker.accept_subscribed().await;

    let jobs = usize::try_from(seconds).unwrap() * RATE as usize;
    let (latencies, memory) = carry(&mut connection, &worker, jobs).await;
    let journal = Duration::from_micros(metric(&status, "journal_microseconds_total"));
    let figures = Figures { latencies, memory, commits: metric(&status, "journal_commits_total"), journal };

    figures.print(seconds);
    if seconds >= LONG {
        figures.check();
    }
}

/// Sends the jobs at the rate and waits for every answer. Returns the latencies and the memory.
async fn carry(connection: &mut Connection, worker: &Process, jobs: usize) -> (Vec<Duration>, Vec<u64>) {
    let (mut sent, mut memory) = (Vec::new(), Vec::new());
    let mut ticks = interval(Duration::from_secs(1) / RATE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while connection.log.published.len() < jobs {
        tokio::select! {
            _ = ticks.tick(), if sent.len() < jobs => {
                let number = sent.len();
                sent.push(Instant::now());
                let job = format!(r#"{{"Input":{{"a":{number},"b":1}},"TaskToken":"T{number}"}}"#);
                connection.publish(packet_id(number), &job).await;

                if number % (2 * RATE as usize) == 0 {
                    memory.push(resident(worker));
                }
            }
            packet = connection.packet() => {
                connection.answer(packet.expect("the worker ended the connection")).await;
            }
        }
    }

    let mut answered = vec![None; jobs];
    for (at, answer) in &connection.log.published {
        let number: usize = answer["TaskToken"].as_str().unwrap()[1..].parse().unwrap();
        assert_eq!(answer["result"], number + 1);
        answered[number] = Some(*at);
    }
    let answered = answered.into_iter().map(|at| at.expect("every job is answered, and none twice"));
    (answered.zip(sent).map(|(answered, sent)| answered - sent).collect(), memory)
}

/// Packet ids are used again after a while, as a broker does.
fn packet_id(number: usize) -> u16 {
    u16::try_from(number % 60_000 + 1).unwrap()
}

impl Figures {
    #[expect(clippy::print_stdout, reason = "the figures are what a soak is run for")]
    fn print(&self, seconds: u64) {
        let jobs = self.latencies.len();
        println!("{jobs} jobs in {seconds} s, {RATE} a second");
        println!("latency: median {:?}, p99 {:?}", share(&self.latencies, 50), share(&self.latencies, 99));
        for (which, part) in ["first", "second", "third", "fourth"].into_iter().zip(self.quarters()) {
            println!("  {which} quarter: median {:?}, p99 {:?}", share(part, 50), share(part, 99));
        }
        println!("journal: {} syncs a second, {:?} a job", self.commits / seconds, self.per_job());
        println!("memory in KB: {:?}", self.memory);
    }

    fn check(&self) {
        let (first, last) = (self.quarters().next().unwrap(), self.quarters().last().unwrap());
        // A lag that grows by a job a second would be seconds in the last quarter.
        let allowed = share(first, 50) + Duration::from_millis(500);
        assert!(share(last, 50) < allowed, "the lag grows");

        let settled = self.memory[self.memory.len() / 4];
        let end = *self.memory.last().unwrap();
        assert!(end < settled + settled / 5, "the memory grows from {settled} to {end} KB");
        assert!(self.per_job() <= Duration::from_millis(1), "the journal takes {:?} a job", self.per_job());
    }

    fn quarters(&self) -> impl Iterator<Item = &[Duration]> {
        self.latencies.chunks(self.latencies.len().div_ceil(4))
    }

    fn per_job(&self) -> Duration {
        self.journal / u32::try_from(self.latencies.len()).unwrap()
    }
}

/// The time that `percent` of the latencies do not exceed.
fn share(latencies: &[Duration], percent: usize) -> Duration {
    let mut sorted = latencies.to_vec();
    sorted.sort_unstable();
    sorted[(sorted.len() - 1) * percent / 100]
}

/// The resident memory of a process in kilobytes.
fn resident(process: &Process) -> u64 {
    // Linux only: elsewhere there is nothing to judge.
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
}

/// The value of one of the worker's metrics.
fn metric(address: &str, name: &str) -> u64 {
    let metrics = ureq::get(format!("http://{address}/metrics")).call().unwrap();
    let metrics = metrics.into_body().read_to_string().unwrap();
    let prefix = format!("postern_worker_{name} ");
    metrics.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap().parse().unwrap()
}
