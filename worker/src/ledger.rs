//! What the worker knows of its jobs, so that a job that is delivered twice runs once.
//!
//! MQTT delivers at least once, and AWS IoT Core sends a message again, without the DUP flag, when its PUBACK
//! is late. The ledger is in memory: it does not survive the process. A durable journal takes its place
//! behind the same three steps (admit before the PUBACK, finish with the answer, forget by age).

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use postern_types::JobId;

/// What the ledger says of a job that has just arrived.
#[derive(Debug, PartialEq, Eq)]
pub enum Admission {
    /// Never seen: run it.
    New,
    /// It waits or runs: its answer will come.
    Running,
    /// It has run: this was its answer; send it again.
    Answered(Bytes),
}

/// The jobs that run, and the answers of the last ones that have.
#[derive(Debug, Default)]
pub struct Ledger {
    jobs: HashMap<JobId, Option<Bytes>>,
    answered: VecDeque<JobId>,
    bytes: usize,
}

impl Ledger {
    /// Most answers that are kept.
    pub const MAX_ANSWERS: usize = 1_000;
    /// Most bytes of answers that are kept.
    pub const MAX_BYTES: usize = 16 * 1024 * 1024;

    /// Notes a job that has arrived, unless it is known.
    pub fn admit(&mut self, job: JobId) -> Admission {
        match self.jobs.get(&job) {
            Some(Some(answer)) => Admission::Answered(answer.clone()),
            Some(None) => Admission::Running,
            None => {
                self.jobs.insert(job, None);
                Admission::New
            }
        }
    }

    /// Keeps a job's answer, and forgets the oldest ones beyond the limits.
    pub fn finish(&mut self, job: JobId, answer: Bytes) {
        self.bytes += answer.len();
        self.jobs.insert(job.clone(), Some(answer));
        self.answered.push_back(job);
        while self.answered.len() > Self::MAX_ANSWERS || self.bytes > Self::MAX_BYTES {
            let Some(oldest) = self.answered.pop_front() else { break };
            if let Some(Some(answer)) = self.jobs.remove(&oldest) {
                self.bytes -= answer.len();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use postern_types::TaskToken;

    use super::*;

    fn id(token: usize) -> JobId {
        TaskToken::parse(token.to_string()).unwrap().job_id()
    }

    #[test]
    fn a_job_is_new_then_runs_then_is_answered() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.admit(id(1)), Admission::New);
        assert_eq!(ledger.admit(id(1)), Admission::Running);
        ledger.finish(id(1), Bytes::from_static(b"57"));
        assert_eq!(ledger.admit(id(1)), Admission::Answered(Bytes::from_static(b"57")));
    }

    #[test]
    fn the_oldest_answers_are_forgotten_and_running_jobs_never() {
        let mut ledger = Ledger::default();
        ledger.admit(id(0));
        for job in 1..=Ledger::MAX_ANSWERS + 1 {
            ledger.admit(id(job));
            ledger.finish(id(job), Bytes::from_static(b"x"));
        }
        assert_eq!(ledger.admit(id(0)), Admission::Running);
        assert_eq!(ledger.admit(id(1)), Admission::New, "forgotten");
        assert!(matches!(ledger.admit(id(2)), Admission::Answered(_)));
    }

    #[test]
    fn answers_are_bounded_by_their_bytes() {
        let mut ledger = Ledger::default();
        let big = Bytes::from(vec![0; Ledger::MAX_BYTES / 2 + 1]);
        for job in [1, 2] {
            ledger.admit(id(job));
            ledger.finish(id(job), big.clone());
        }
        assert_eq!(ledger.admit(id(1)), Admission::New);
        assert!(matches!(ledger.admit(id(2)), Admission::Answered(_)));
        assert_eq!(ledger.bytes, big.len());
    }
}
