//! The table in memory, for the tests of functions. `tests/e2e/jobs_table.rs` holds it against the table in DynamoDB.

use std::cell::RefCell;
use std::collections::BTreeMap;

use jiff::Timestamp;
use postern_types::limits::cut as cut_chars;
use postern_types::{JobId, Tenant};

use crate::attempts::{in_order, last_attempts, last_data, shared_key};
use crate::cursor::Cursor;
use crate::error::Error;
use crate::model::{CAUSE_CHARS, End, Filter, JobItem, NewJob, OpenJob, Page, Progress, percent};
use crate::state::{Rank, State};
use crate::table::Jobs;
use crate::tail::{cut_lines, tail};
use crate::time::time_text;

/// A table of jobs that lives as long as its test.
#[derive(Debug, Default)]
pub struct MemoryJobs {
    jobs: RefCell<BTreeMap<(String, String), JobItem>>,
    /// The ids of the last attempts with each tenant's idempotency keys.
    attempts: RefCell<BTreeMap<(String, String), Vec<String>>>,
    fails: bool,
}

impl MemoryJobs {
    /// A table that answers no call.
    pub fn unavailable() -> Self {
        Self { fails: true, ..Self::default() }
    }

    fn check(&self) -> Result<(), Error> {
        if self.fails { Err(Error::Unavailable("InternalServerError (HTTP 500)".into())) } else { Ok(()) }
    }

    /// The jobs of the last attempts with an idempotency key, the earliest first.
    fn attempts_with(&self, tenant: &Tenant, idempotency_key: &str) -> Vec<JobItem> {
        let (attempts, jobs) = (self.attempts.borrow(), self.jobs.borrow());
        let ids = attempts.get(&key(tenant, idempotency_key)).into_iter().flatten();
        in_order(ids.filter_map(|id| jobs.get(&key(tenant, id)).cloned()).collect())
    }

    /// Adds the job to the attempts with its idempotency key.
    fn note_attempt(&self, job: &NewJob) {
        let Some(shared) = shared_key(job) else { return };
        let mut attempts = self.attempts.borrow_mut();
        let ids = attempts.entry(key(&job.tenant, shared)).or_default();

        let id = job.job_id.to_string();
        if !ids.contains(&id) {
            ids.push(id);
        }
        *ids = last_attempts(ids).to_vec();
    }

    /// Changes a job whose rank is lower, or makes it.
    fn advance(
        &self,
        tenant: &Tenant,
        job_id: &JobId,
        (state, rank): (State, Rank),
        change: impl FnOnce(&mut JobItem),
    ) -> Result<bool, Error> {
        self.check()?;
        let mut jobs = self.jobs.borrow_mut();
        let job = jobs.entry(key(tenant, job_id.as_str())).or_insert_with(|| new_item(tenant, job_id));
        if job.rank >= rank.number() {
            return Ok(false);
        }

        job.state = state;
        job.rank = rank.number();
        change(job);
        Ok(true)
    }
}

impl Jobs for MemoryJobs {
    async fn dispatched(&self, new: &NewJob) -> Result<bool, Error> {
        self.check()?;
        self.note_attempt(new);
        let new = new.clone();
        let (tenant, job_id) = (new.tenant.clone(), new.job_id.clone());

        self.advance(&tenant, &job_id, (State::Dispatched, Rank::Dispatched), |job| {
            job.kind = new.kind;
            job.name = new.name;
            job.execution = new.execution;
            job.state_name = new.state_name;
            job.attempt = new.attempt;
            job.idempotency_key = new.idempotency_key;
            job.topic = new.topic;
            job.deadline = new.deadline.map(time_text);
            job.approval = new.approval;
            job.resumed = new.resume.is_some();
            job.data = new.resume.or(job.data.take());
            job.dispatched_at = Some(time_text(new.dispatched_at));
        })
    }

    async fn accepted(
        &self,
        tenant: &Tenant,
        job_id: &JobId,
        worker: Option<&str>,
        at: Timestamp,
    ) -> Result<bool, Error> {
        self.advance(tenant, job_id, (State::Accepted, Rank::Accepted), |job| {
            job.accepted_at = Some(time_text(at));
            job.worker = worker.map(str::to_owned).or(job.worker.take());
            job.dispatched_at.get_or_insert(time_text(at));
        })
    }

    async fn ended(&self, tenant: &Tenant, job_id: &JobId, end: &End, at: Timestamp) -> Result<bool, Error> {
        self.advance(tenant, job_id, (end.state, end.rank), |job| {
            job.ended_at = Some(time_text(at));
            job.worker = end.worker.clone().or(job.worker.take());
            job.error.clone_from(&end.error);
            job.cause = end.cause.as_deref().map(|cause| cut_chars(cause, CAUSE_CHARS).to_owned());
            job.dispatched_at.get_or_insert(time_text(at));
        })
    }

    async fn progress(
        &self,
        tenant: &Tenant,
        worker: Option<&str>,
        progress: &Progress,
    ) -> Result<Option<JobItem>, Error> {
        self.check()?;
        let at = time_text(progress.at);
        let mut jobs = self.jobs.borrow_mut();
        let Some(job) = jobs.get_mut(&key(tenant, progress.job_id.as_str())) else { return Ok(None) };
        if job.progress_at.as_ref().is_some_and(|before| *before >= at) {
            return Ok(None);
        }

        job.progress_at = Some(at);
        job.percent = progress.percent.map(percent).or(job.percent);
        job.message = progress.message.clone().or(job.message.take());
        job.data = progress.data.clone().or(job.data.take());
        job.worker = job.worker.take().or(worker.map(str::to_owned));
        job.log.extend(cut_lines(&progress.log));
        job.log = tail(&job.log).to_vec();
        Ok(Some(job.clone()))
    }

    async fn resume(&self, tenant: &Tenant, idempotency_key: &str) -> Result<Option<String>, Error> {
        self.check()?;
        Ok(last_data(self.attempts_with(tenant, idempotency_key)))
    }

    async fn attempts(&self, tenant: &Tenant, idempotency_key: &str) -> Result<Vec<JobItem>, Error> {
        self.check()?;
        Ok(self.attempts_with(tenant, idempotency_key).iter().map(attempt).collect())
    }

    async fn get(&self, tenant: &Tenant, job_id: &JobId) -> Result<Option<JobItem>, Error> {
        self.check()?;
        Ok(self.jobs.borrow().get(&key(tenant, job_id.as_str())).cloned())
    }

    async fn list(
        &self,
        tenant: &Tenant,
        filter: &Filter,
        limit: u8,
        cursor: Option<&Cursor>,
    ) -> Result<Page, Error> {
        self.check()?;
        let order = |job: &JobItem| (job.dispatched_at.clone().unwrap_or_default(), job.job_id.clone());
        let (from, to) = (filter.from.map(time_text), filter.to.map(time_text));
        let start = cursor.map(|cursor| (cursor.dispatched_at.clone(), cursor.job_id.to_string()));
        let is_listed = |job: &&JobItem| {
            let (at, id) = order(job);
            job.tenant == tenant.as_str()
                && filter.state.is_none_or(|state| job.state == state)
                && from.as_ref().is_none_or(|from| at >= *from)
                && to.as_ref().is_none_or(|to| at <= *to)
                && start.as_ref().is_none_or(|start| (at, id) < *start)
        };

        let mut jobs: Vec<_> = self.jobs.borrow().values().filter(is_listed).map(without_details).collect();
        jobs.sort_by_key(|job| std::cmp::Reverse(order(job)));
        jobs.truncate(usize::from(limit.max(1)));
        let last = jobs.last().filter(|_| jobs.len() == usize::from(limit.max(1)));
        let next = last.and_then(|job| {
            Some(Cursor {
                dispatched_at: job.dispatched_at.clone()?,
                job_id: JobId::parse(&*job.job_id).ok()?,
            })
        });
        Ok(Page { jobs, next })
    }

    async fn open_jobs(&self, execution: &str) -> Result<Vec<OpenJob>, Error> {
        self.check()?;
        let jobs = self.jobs.borrow();
        let open =
            jobs.values().filter(|job| job.state.is_open() && job.execution.as_deref() == Some(execution));
        Ok(open.filter_map(open_job).collect())
    }
}

fn key(tenant: &Tenant, range: &str) -> (String, String) {
    (tenant.to_string(), range.to_owned())
}

fn new_item(tenant: &Tenant, job_id: &JobId) -> JobItem {
    JobItem {
        tenant: tenant.to_string(),
        job_id: job_id.to_string(),
        state: State::Dispatched,
        rank: 0,
        kind: None,
        name: None,
        execution: None,
        state_name: None,
        attempt: None,
        idempotency_key: None,
        worker: None,
        topic: None,
        dispatched_at: None,
        accepted_at: None,
        ended_at: None,
        deadline: None,
        percent: None,
        message: None,
        data: None,
        progress_at: None,
        log: Vec::new(),
        resumed: false,
        error: None,
        cause: None,
        approval: None,
    }
}

/// The job as the indexes have it.
fn without_details(job: &JobItem) -> JobItem {
    JobItem {
        data: None,
        log: Vec::new(),
        topic: None,
        approval: None,
        idempotency_key: None,
        progress_at: None,
        ..job.clone()
    }
}

/// The job as one of several attempts.
fn attempt(job: &JobItem) -> JobItem {
    let progress_at = job.progress_at.clone();
    JobItem { execution: None, state_name: None, deadline: None, progress_at, ..without_details(job) }
}

fn open_job(job: &JobItem) -> Option<OpenJob> {
    Some(OpenJob {
        tenant: Tenant::parse(&job.tenant).ok()?,
        job_id: JobId::parse(&*job.job_id).ok()?,
        deadline: job.deadline.as_deref().and_then(|deadline| deadline.parse().ok()),
    })
}

#[cfg(test)]
mod tests;
