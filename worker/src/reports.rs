//! What handlers report while they run, between the reports and the messages: the last progress of each job, and the
//! tail of its log. A handler may report as often as it likes: it fills this table, from which one message a second is
//! taken. Nothing is sent here.

mod lines;
mod value;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use postern_types::{JobId, JobProgress, ProgressMessage};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::runs::{RunKey, Runs};
use lines::Tail;
use value::Progress;

/// The largest message, in bytes.
pub(crate) const MESSAGE_BYTES: usize = 100_000;
/// The most that waits to be sent, in bytes. While the broker is away, the reports of the jobs that have waited longest
/// go first.
const WAITING_BYTES: usize = 4 * 1024 * 1024;

/// The reports of all jobs.
#[derive(Debug, Default)]
pub(crate) struct Reports(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    waiting: HashMap<JobId, Report>,
    /// The jobs in `waiting`, those that have waited longest first.
    order: VecDeque<JobId>,
    bytes: usize,
    /// The last progress of jobs that may run again after a crash, for the journal.
    to_keep: HashMap<JobId, Box<RawValue>>,
}

#[derive(Debug, Default)]
struct Report {
    progress: Option<Progress>,
    log: Tail,
}

impl Report {
    fn bytes(&self) -> usize {
        self.progress.as_ref().map_or(0, Progress::bytes) + self.log.bytes()
    }
}

/// Reports for one run of a handler.
#[derive(Debug, Clone)]
pub(crate) struct Reporter {
    reports: Arc<Reports>,
    /// The job that the handler sees.
    job_id: JobId,
    /// The run, whose other attempts are reported on too.
    run: Option<(Arc<Runs>, RunKey)>,
    /// The job may run again after a crash: the journal keeps its progress.
    runs_again: bool,
}

impl Reporter {
    pub(crate) fn new(reports: Arc<Reports>, job_id: JobId, runs_again: bool) -> Self {
        Self { reports, job_id, run: None, runs_again }
    }

    /// Reports under the ids of all attempts that share the run at the time of the report.
    pub(crate) fn of_run(mut self, runs: Arc<Runs>, key: RunKey) -> Self {
        self.run = Some((runs, key));
        self
    }

    /// The jobs that a report is about.
    fn jobs(&self) -> Vec<JobId> {
        let sharing = self.run.as_ref().map(|(runs, key)| runs.sharing(key)).unwrap_or_default();
        if sharing.is_empty() { vec![self.job_id.clone()] } else { sharing }
    }

    /// Reports how far the job is.
    pub(crate) fn progress(&self, value: &(impl Serialize + ?Sized)) {
        let progress = match Progress::of(value) {
            Ok(progress) => progress,
            Err(problem) => {
                return tracing::warn!(job_id = %self.job_id, "a progress is not reported: {problem}");
            }
        };

        let jobs = self.jobs();
        if let Some(data) = progress.data.as_ref().filter(|_| self.runs_again) {
            let kept = jobs.iter().map(|job_id| (job_id.clone(), data.clone()));
            self.reports.table().to_keep.extend(kept);
        }
        self.reports.change(&jobs, |report| report.progress = Some(progress.clone()));
    }

    /// Adds lines to the job's log.
    pub(crate) fn log(&self, text: &str) {
        self.reports.change(&self.jobs(), |report| report.log.push(text));
    }
}

impl Reports {
    /// Changes the reports of jobs in one step: no message is made in between.
    fn change(&self, job_ids: &[JobId], change: impl Fn(&mut Report)) {
        let mut table = self.table();
        for job_id in job_ids {
            table.change(job_id, &change);
        }
    }

    /// Takes what fits into one message; `None` if there is nothing to report. What does not fit stays for the next one.
    pub(crate) fn take(&self, at: Timestamp) -> Option<ProgressMessage> {
        let mut table = self.table();
        let mut message = ProgressMessage { jobs: Vec::new(), tenant: None, worker: None };
        let mut room = MESSAGE_BYTES - message.bytes().len();
        while let Some(job_id) = table.order.pop_front() {
            let Some(mut report) = table.remove(&job_id) else { continue };
            let mut entry = report.progress.map_or_else(
                || JobProgress::new(job_id.clone(), at),
                |progress| progress.entry(job_id.clone(), at),
            );
            // A comma, and the member that the lines are in.
            let bytes = serde_json::to_vec(&entry).map_or(0, |json| json.len()) + r#",,"Log":[]"#.len();
            if bytes > room {
                report.progress = Some(Progress::from(entry));
                table.put_back(job_id, report);
                break;
            }

            room -= bytes;
            room -= report.log.take(room, &mut entry.log);
            message.jobs.push(entry);
            if !report.log.is_empty() {
                report.progress = None;
                table.put_back(job_id, report);
                break;
            }
        }
        (!message.jobs.is_empty()).then_some(message)
    }

    /// Takes the progress that the journal should have.
    pub(crate) fn take_to_keep(&self) -> Vec<(JobId, Box<RawValue>)> {
        self.table().to_keep.drain().collect()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Changes the report of a job. The jobs that have waited longest make room for it.
    fn change(&mut self, job_id: &JobId, change: impl FnOnce(&mut Report)) {
        if !self.waiting.contains_key(job_id) {
            self.order.push_back(job_id.clone());
        }
        let report = self.waiting.entry(job_id.clone()).or_default();
        let before = report.bytes();
        change(report);
        let after = report.bytes();
        self.bytes = self.bytes + after - before;

        while self.bytes > WAITING_BYTES {
            let Some(oldest) = self.order.pop_front() else { return };
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, job_id: &JobId) -> Option<Report> {
        let report = self.waiting.remove(job_id)?;
        self.bytes -= report.bytes();
        Some(report)
    }

    fn put_back(&mut self, job_id: JobId, report: Report) {
        self.bytes += report.bytes();
        self.order.push_front(job_id.clone());
        self.waiting.insert(job_id, report);
    }
}

#[cfg(test)]
mod tests;
