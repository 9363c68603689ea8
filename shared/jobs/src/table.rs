//! What the functions need of the table.

use jiff::Timestamp;
use postern_types::{JobId, Tenant};

use crate::cursor::Cursor;
use crate::error::Error;
use crate::model::{End, Filter, JobItem, NewJob, OpenJob, Page, Progress};

/// The table of jobs. Each write says whether it changed the item: `false` and `None` mean that the table knows better
/// already.
#[expect(async_fn_in_trait, reason = "functions run on one thread, so the future need not be Send")]
pub trait Jobs {
    /// Records a job that is about to be published.
    async fn dispatched(&self, job: &NewJob) -> Result<bool, Error>;

    /// Records that a worker has the job.
    async fn accepted(
        &self,
        tenant: &Tenant,
        job_id: &JobId,
        worker: Option<&str>,
        at: Timestamp,
    ) -> Result<bool, Error>;

    /// Records the end of a job. A cancellation is an end, too.
    async fn ended(&self, tenant: &Tenant, job_id: &JobId, end: &End, at: Timestamp) -> Result<bool, Error>;

    /// Records progress, and returns the job as it is then. `None` if the progress is older than the table's, or if the
    /// tenant has no such job.
    async fn progress(
        &self,
        tenant: &Tenant,
        worker: Option<&str>,
        progress: &Progress,
    ) -> Result<Option<JobItem>, Error>;

    /// The progress from which the next attempt with this idempotency key begins, as JSON text: that of the latest of the
    /// last [`crate::ATTEMPTS`] attempts that has one. A job whose idempotency key is its own id has no next attempt. The
    /// read is consistent.
    async fn resume(&self, tenant: &Tenant, idempotency_key: &str) -> Result<Option<String>, Error>;

    /// The jobs of the last attempts with an idempotency key, at most [`crate::ATTEMPTS`], the earliest first. They have no
    /// `data` and no `log`. A job whose idempotency key is its own id has no other attempt, and is not among them.
    async fn attempts(&self, tenant: &Tenant, idempotency_key: &str) -> Result<Vec<JobItem>, Error>;

    /// One job.
    async fn get(&self, tenant: &Tenant, job_id: &JobId) -> Result<Option<JobItem>, Error>;

    /// A page of a tenant's jobs, the newest first; `limit` is at least 1. The indexes lag behind the table by about a second.
    async fn list(
        &self,
        tenant: &Tenant,
        filter: &Filter,
        limit: u8,
        cursor: Option<&Cursor>,
    ) -> Result<Page, Error>;

    /// The jobs of an execution that have not ended, of all tenants.
    async fn open_jobs(&self, execution: &str) -> Result<Vec<OpenJob>, Error>;
}
