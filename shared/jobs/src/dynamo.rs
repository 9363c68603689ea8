//! The table in DynamoDB, by signed requests.

mod query;
mod update;

use std::convert::Infallible;
use std::time::Duration;

use aws_credential_types::Credentials;
use http::uri::InvalidUri;
use jiff::Timestamp;
use postern_runtime::env::{Environment, InvalidVariable};
use postern_runtime::signed::{CallFailed, Service, SignedClient};
use postern_types::limits::cut as cut_chars;
use postern_types::{JobId, Tenant};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::attempts::{in_order, last_attempts, last_data, shared_key};
use crate::attributes::{Attribute, Item};
use crate::cursor::Cursor;
use crate::error::Error;
use crate::model::{CAUSE_CHARS, End, Filter, JobItem, NewJob, OpenJob, Page, Progress, percent};
use crate::state::{Rank, State};
use crate::table::Jobs;
use crate::tail::{cut, cut_lines, half_tail, tail};
use crate::time::{expires_at, time_text};
use update::Update;

/// DynamoDB answers in milliseconds. The attempts are short, so that a table that does not answer delays a job, which
/// goes on without it, by few seconds.
const DYNAMODB: Service = Service {
    name: "dynamodb",
    target: "DynamoDB_20120810",
    content_type: "application/x-amz-json-1.0",
    attempt: Duration::from_secs(1),
    pause: Duration::from_millis(50),
    // An answer has at most 1 MB, and escapes make its JSON longer.
    answer_bytes: 8 << 20,
};

/// The longest message for people, in bytes.
const MESSAGE_BYTES: usize = 1_000;

/// The table of jobs in DynamoDB.
#[derive(Clone)]
pub struct DynamoJobs {
    client: SignedClient,
    table: String,
}

impl DynamoJobs {
    /// The table that `JOBS_TABLE` names. Without the variable there is no table, and functions work without one.
    pub fn from_env(environment: &Environment<'_>) -> Result<Option<Self>, InvalidVariable> {
        let table = environment
            .parse_optional("JOBS_TABLE", "postern-jobs", |name| Ok::<_, Infallible>(name.to_owned()))?;
        let Some(table) = table else { return Ok(None) };
        Ok(Some(Self { client: SignedClient::from_env(environment, DYNAMODB)?, table }))
    }

    /// The table of this name, for programs that people run: with credentials from elsewhere than a function's
    /// environment.
    pub fn new(
        table: &str,
        region: &str,
        endpoint: Option<&str>,
        credentials: Credentials,
    ) -> Result<Self, InvalidUri> {
        let client = SignedClient::new(DYNAMODB, region, endpoint, credentials)?;
        Ok(Self { client, table: table.to_owned() })
    }

    /// Updates an item. `None` if the update's condition is not met.
    async fn update(&self, update: Update) -> Result<Option<Item>, Error> {
        #[derive(Default, Deserialize)]
        struct Answer {
            #[serde(rename = "Attributes", default)]
            attributes: Item,
        }

        match self.client.call("UpdateItem", &update.into_body(&self.table)).await {
            Ok(answer) => Ok(Some(read::<Answer>(&answer)?.attributes)),
            Err(CallFailed { code, .. }) if code == "ConditionalCheckFailedException" => Ok(None),
            Err(failed) => Err(failed.into()),
        }
    }

    /// Reads an item by its key, consistently.
    async fn read(&self, tenant: &Tenant, range: &str) -> Result<Option<Item>, Error> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "Item")]
            item: Option<Item>,
        }

        let body = json!({
            "TableName": self.table,
            "Key": {"Tenant": {"S": tenant.as_str()}, "JobId": {"S": range}},
            "ConsistentRead": true,
        });
        let answer = self.client.call("GetItem", &body.to_string()).await?;
        Ok(read::<Answer>(&answer)?.item)
    }

    async fn query(&self, body: &Value) -> Result<query::Answer, Error> {
        let answer = self.client.call("Query", &body.to_string()).await?;
        read(&answer)
    }

    /// Keeps the tail of a log that has grown over its bounds. Half of them remain, so that not every message with a line
    /// needs a second write. A newer message that came meanwhile shortens the log itself.
    async fn shorten_log(&self, tenant: &Tenant, job: &mut JobItem, log: &[String]) -> Result<(), Error> {
        let kept = half_tail(log);
        let update = Update::of(tenant, &job.job_id).set("Log", Attribute::lines(kept));
        let at = job.progress_at.clone().unwrap_or_default();
        let update = update.value("At", at).when("#ProgressAt = :At", &["ProgressAt"]);
        self.update(update).await?;
        job.log = kept.to_vec();
        Ok(())
    }

    /// Adds the job to the attempts with its idempotency key.
    async fn note_attempt(&self, job: &NewJob) -> Result<(), Error> {
        let Some(key) = shared_key(job) else { return Ok(()) };
        let id = job.job_id.to_string();
        let until = expires_at(job.dispatched_at, job.deadline, true);

        let update = Update::of(&job.tenant, &attempts_range(key))
            .append("Attempts", Attribute::lines(std::slice::from_ref(&id)))
            .set("ExpiresAt", Attribute::number(until))
            .value("JobId", id)
            .when("attribute_not_exists(#Attempts) OR NOT contains(#Attempts, :JobId)", &[]);
        let Some(mut item) = self.update(update).await? else { return Ok(()) };
        let ids = item.lines("Attempts");
        if last_attempts(&ids).len() < ids.len() {
            self.forget_attempts(&job.tenant, key, &ids).await?;
        }
        Ok(())
    }

    /// Forgets the earliest attempts. An attempt that came meanwhile does this itself.
    async fn forget_attempts(&self, tenant: &Tenant, key: &str, ids: &[String]) -> Result<(), Error> {
        let update = Update::of(tenant, &attempts_range(key))
            .set("Attempts", Attribute::lines(last_attempts(ids)))
            .value("Before", Attribute::lines(ids))
            .when("#Attempts = :Before", &[]);
        self.update(update).await?;
        Ok(())
    }

    /// Reads these attributes of the last attempts with an idempotency key, the earliest first.
    async fn read_attempts(
        &self,
        tenant: &Tenant,
        key: &str,
        attributes: &[&str],
    ) -> Result<Vec<JobItem>, Error> {
        let item = self.read(tenant, &attempts_range(key)).await?;
        let ids = item.map(|mut item| item.lines("Attempts")).unwrap_or_default();
        let ids = last_attempts(&ids);
        if ids.is_empty() {
            return Ok(Vec::new());
        }

        let body = query::of_jobs(&self.table, tenant, ids, attributes);
        let answer = self.client.call("BatchGetItem", &body.to_string()).await?;
        Ok(in_order(query::jobs_of(read(&answer)?)?))
    }
}

impl Jobs for DynamoJobs {
    async fn dispatched(&self, job: &NewJob) -> Result<bool, Error> {
        let at = job.dispatched_at;
        let update = Update::of(&job.tenant, job.job_id.as_str())
            .state(&job.tenant, State::Dispatched, Rank::Dispatched)
            .set_some("Kind", job.kind.as_deref())
            .set_some("Name", job.name.as_deref())
            // An index has no empty key.
            .set_some("Execution", job.execution.as_deref().filter(|execution| !execution.is_empty()))
            .set_some("StateName", job.state_name.as_deref())
            .set_some("Attempt", job.attempt.map(Attribute::number))
            .set_some("IdempotencyKey", job.idempotency_key.as_deref())
            .set_some("Topic", job.topic.as_deref())
            .set_some("Deadline", job.deadline.map(time_text))
            .set_some("Approval", job.approval.as_deref())
            .set("Resumed", job.resume.is_some())
            .set_some("Data", job.resume.as_deref())
            .set("DispatchedAt", time_text(at))
            .set("ExpiresAt", Attribute::number(expires_at(at, job.deadline, true)));

        // The job is about to be published and waits for both.
        let (written, noted) = tokio::join!(self.update(update), self.note_attempt(job));
        noted?;
        Ok(written?.is_some())
    }

    async fn accepted(
        &self,
        tenant: &Tenant,
        job_id: &JobId,
        worker: Option<&str>,
        at: Timestamp,
    ) -> Result<bool, Error> {
        let update = Update::of(tenant, job_id.as_str())
            .state(tenant, State::Accepted, Rank::Accepted)
            .set("AcceptedAt", time_text(at))
            .set_some("Worker", worker)
            .set_new("DispatchedAt", time_text(at))
            .set_new("ExpiresAt", Attribute::number(expires_at(at, None, true)));
        Ok(self.update(update).await?.is_some())
    }

    async fn ended(&self, tenant: &Tenant, job_id: &JobId, end: &End, at: Timestamp) -> Result<bool, Error> {
        let cause = end.cause.as_deref().map(|cause| cut_chars(cause, CAUSE_CHARS));
        let update = Update::of(tenant, job_id.as_str())
            .state(tenant, end.state, end.rank)
            .set("EndedAt", time_text(at))
            .set_some("Worker", end.worker.as_deref())
            .set_or_remove("Error", end.error.as_deref())
            .set_or_remove("Cause", cause)
            .set_new("DispatchedAt", time_text(at))
            .set("ExpiresAt", Attribute::number(expires_at(at, None, false)));
        Ok(self.update(update).await?.is_some())
    }

    async fn progress(
        &self,
        tenant: &Tenant,
        worker: Option<&str>,
        progress: &Progress,
    ) -> Result<Option<JobItem>, Error> {
        let log = cut_lines(&progress.log);
        let mut update = Update::of(tenant, progress.job_id.as_str())
            .set("ProgressAt", time_text(progress.at))
            .set_some("Percent", progress.percent.map(percent).map(Attribute::number))
            .set_some("Message", progress.message.as_deref().map(|text| cut(text, MESSAGE_BYTES)))
            .set_some("Data", progress.data.as_deref())
            .when(
                "attribute_exists(#Rank) AND (attribute_not_exists(#ProgressAt) OR #ProgressAt < :ProgressAt)",
                &["Rank"],
            );
        if let Some(worker) = worker {
            update = update.set_new("Worker", worker);
        }
        if !log.is_empty() {
            update = update.append("Log", Attribute::lines(&log));
        }

        let Some(mut item) = self.update(update).await? else { return Ok(None) };
        let log = item.lines("Log");
        let mut job = item.into_job()?;
        if tail(&log).len() < log.len() {
            self.shorten_log(tenant, &mut job, &log).await?;
        } else {
            job.log = log;
        }
        Ok(Some(job))
    }

    async fn resume(&self, tenant: &Tenant, idempotency_key: &str) -> Result<Option<String>, Error> {
        Ok(last_data(self.read_attempts(tenant, idempotency_key, &query::DATA_OF_AN_ATTEMPT).await?))
    }

    async fn attempts(&self, tenant: &Tenant, idempotency_key: &str) -> Result<Vec<JobItem>, Error> {
        self.read_attempts(tenant, idempotency_key, &query::OF_AN_ATTEMPT).await
    }

    async fn get(&self, tenant: &Tenant, job_id: &JobId) -> Result<Option<JobItem>, Error> {
        self.read(tenant, job_id.as_str()).await?.map(Item::into_job).transpose()
    }

    async fn list(
        &self,
        tenant: &Tenant,
        filter: &Filter,
        limit: u8,
        cursor: Option<&Cursor>,
    ) -> Result<Page, Error> {
        let body = query::of_tenant(&self.table, tenant, filter, limit.max(1), cursor);
        let answer = self.query(&body).await?;

        let next = answer.last_key.map(query::cursor).transpose()?;
        let jobs = answer.items.into_iter().map(Item::into_job).collect::<Result<_, _>>()?;
        Ok(Page { jobs, next })
    }

    async fn open_jobs(&self, execution: &str) -> Result<Vec<OpenJob>, Error> {
        let mut jobs = Vec::new();
        let mut start = None;
        loop {
            let answer = self.query(&query::of_execution(&self.table, execution, start.as_ref())).await?;
            for item in answer.items {
                jobs.push(item.into_open_job()?);
            }

            start = answer.last_key;
            if start.is_none() {
                return Ok(jobs);
            }
        }
    }
}

/// The range key of the item that keeps the attempts of an idempotency key. No [`JobId`] contains a `#`.
fn attempts_range(key: &str) -> String {
    format!("key#{key}")
}

fn read<'a, T: Deserialize<'a>>(answer: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(answer).map_err(|error| {
        Error::Malformed(format!("line {}, column {} of an answer", error.line(), error.column()))
    })
}

#[cfg(test)]
mod tests;
