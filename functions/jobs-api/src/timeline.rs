//! The timeline of a job: what happened to each attempt of it. An attempt is a job of its own, with its own id; attempts
//! belong together by their idempotency key.
//!
//! The timeline is made of the attempts' items, which only move forward. So it loses nothing that it has shown, in whatever
//! order messages arrive.

use postern_jobs::{JobItem, Jobs, State};
use postern_types::Tenant;
use serde::Serialize;

/// Something that happened to an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TimelineEvent {
    at: String,
    #[serde(rename = "type")]
    kind: &'static str,
    detail: String,
    /// The id of the attempt.
    job_id: String,
    /// The number of the attempt. The first is 1.
    attempt: u32,
}

/// The timeline of a job and of the other attempts with its idempotency key.
pub(crate) async fn timeline(
    jobs: &impl Jobs,
    tenant: &Tenant,
    job: &JobItem,
) -> Result<Vec<TimelineEvent>, postern_jobs::Error> {
    let mut attempts = match &job.idempotency_key {
        Some(key) if *key != job.job_id => jobs.attempts(tenant, key).await?,
        _ => Vec::new(),
    };

    // The job is there even if the table remembers later attempts only, and as it was read first.
    attempts.retain(|attempt| attempt.job_id != job.job_id);
    attempts.push(job.clone());
    Ok(events(&attempts))
}

/// What happened to the attempts, in the order of time.
fn events(attempts: &[JobItem]) -> Vec<TimelineEvent> {
    let mut events: Vec<_> = attempts.iter().flat_map(events_of).collect();
    events.sort_by(|one, other| one.at.cmp(&other.at));
    events
}

/// What happened to one attempt, in the order in which it happens.
fn events_of(job: &JobItem) -> impl Iterator<Item = TimelineEvent> {
    let attempt = job.attempt.unwrap_or_default().saturating_add(1);
    let started = if attempt == 1 { "dispatched" } else { "retried" };
    let resumed = job.dispatched_at.as_ref().filter(|_| job.resumed);
    let worker = job.worker.as_deref().unwrap_or("a worker");

    let events = [
        (job.dispatched_at.as_ref(), started, format!("attempt {attempt}")),
        (resumed, "resumed", "with the progress of the attempt before".to_owned()),
        (job.accepted_at.as_ref(), "accepted", format!("by {worker}")),
        (job.progress_at.as_ref(), "progress", progress(job)),
        (job.ended_at.as_ref(), "done", end(job)),
    ];
    let job_id = job.job_id.clone();
    let happened = events.map(|(at, kind, detail)| {
        Some(TimelineEvent { at: at?.clone(), kind, detail, job_id: job_id.clone(), attempt })
    });
    happened.into_iter().flatten()
}

fn progress(job: &JobItem) -> String {
    let percent = job.percent.map(|percent| format!("{percent} %"));
    percent.into_iter().chain(job.message.clone()).collect::<Vec<_>>().join(" ")
}

fn end(job: &JobItem) -> String {
    let state = match job.state {
        State::Dispatched | State::Accepted => None,
        ended => Some(ended.as_str().to_owned()),
    };
    state.into_iter().chain(job.error.clone()).chain(job.cause.clone()).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests;
