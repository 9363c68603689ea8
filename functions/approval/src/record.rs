//! What the table of jobs knows of approvals: that a person is asked, and the decision.
//!
//! The table is for people who look at it. A table that does not answer changes nothing for the task.

use jiff::Timestamp;
use postern_approval::{Ask, Decision, REJECTED};
use postern_jobs::{End, Jobs, NewJob, Rank, State};
use postern_runtime::env::{Environment, InvalidVariable};
use postern_runtime::metrics;
use postern_types::Tenant;

/// The kind of a job that a person answers.
const KIND: &str = "approval";

/// The table, if the function has one.
pub(crate) struct Record<J> {
    jobs: Option<J>,
    /// `DEFAULT_TENANT`: the tenant of approvals that do not name one.
    tenant: Tenant,
}

impl<J: Jobs> Record<J> {
    pub(crate) fn from_env(environment: &Environment<'_>, jobs: Option<J>) -> Result<Self, InvalidVariable> {
        Ok(Self { jobs, tenant: environment.parse("DEFAULT_TENANT", "tenant1", Tenant::parse)? })
    }

    pub(crate) fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    #[cfg(test)]
    pub(crate) fn jobs(&self) -> Option<&J> {
        self.jobs.as_ref()
    }

    /// Records that a person is asked.
    pub(crate) async fn asked(&self, job: NewJob) {
        let Some(jobs) = &self.jobs else { return };
        logged(jobs.dispatched(&NewJob { kind: Some(KIND.into()), ..job }).await);
    }

    /// Records a decision that Step Functions has accepted.
    pub(crate) async fn decided(&self, ask: &Ask, decision: Decision, cause: &str, now: Timestamp) {
        let Some(jobs) = &self.jobs else { return };
        let tenant = ask.tenant.as_deref().and_then(|tenant| Tenant::parse(tenant).ok());
        let tenant = tenant.as_ref().unwrap_or(&self.tenant);
        let end = match decision {
            Decision::Approve => End::new(State::Succeeded, Rank::Answered),
            Decision::Reject => End::new(State::Failed, Rank::Answered).because(REJECTED, cause),
        };

        logged(jobs.ended(tenant, &ask.token.job_id(), &end, now).await);
    }
}

fn logged(written: Result<bool, postern_jobs::Error>) {
    if let Err(error) = written {
        metrics::count("JobTableErrors");
        tracing::warn!("the table of jobs was not written: {error}");
    }
}
