//! A job as the API shows it, and the events of its timeline.

use postern_jobs::{JobItem, State};
use serde::Serialize;
use serde_json::value::RawValue;

/// The kind of a job that a person answers.
const APPROVAL: &str = "approval";

/// A job. The texts of a worker or a person are passed on as they are; the page shows them as text.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Job {
    job_id: String,
    tenant: String,
    state: &'static str,
    kind: Option<String>,
    name: Option<String>,
    execution: Option<String>,
    state_name: Option<String>,
    attempt: Option<u32>,
    worker: Option<String>,
    dispatched_at: Option<String>,
    accepted_at: Option<String>,
    progress_at: Option<String>,
    ended_at: Option<String>,
    deadline: Option<String>,
    percent: Option<f64>,
    message: Option<String>,
    data: Option<Box<RawValue>>,
    resumed: bool,
    error: Option<String>,
    cause: Option<String>,
    /// Whether the job waits for a person.
    approval: bool,
}

/// Leaves out what the API shows elsewhere, or not at all: the log, and the sealed link, which is a credential.
impl From<JobItem> for Job {
    fn from(item: JobItem) -> Self {
        let approval = item.kind.as_deref() == Some(APPROVAL) && item.state.is_open();
        Self {
            job_id: item.job_id,
            tenant: item.tenant,
            state: item.state.as_str(),
            kind: item.kind,
            name: item.name,
            execution: item.execution,
            state_name: item.state_name,
            attempt: item.attempt,
            worker: item.worker,
            dispatched_at: item.dispatched_at,
            accepted_at: item.accepted_at,
            progress_at: item.progress_at,
            ended_at: item.ended_at,
            deadline: item.deadline,
            percent: item.percent,
            message: item.message,
            data: item.data.and_then(|data| RawValue::from_string(data).ok()),
            resumed: item.resumed,
            error: item.error,
            cause: item.cause,
            approval,
        }
    }
}

/// Something that happened to a job.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct TimelineEvent {
    at: String,
    #[serde(rename = "type")]
    kind: &'static str,
    detail: String,
}

/// What happened to a job, in the order of time.
pub(crate) fn timeline(job: &JobItem) -> Vec<TimelineEvent> {
    let started = match job.attempt.unwrap_or_default() {
        0 => ("dispatched", "attempt 1".to_owned()),
        again => ("retried", format!("attempt {}", again.saturating_add(1))),
    };
    let resumed = job.dispatched_at.as_ref().filter(|_| job.resumed);
    let worker = job.worker.as_deref().unwrap_or("a worker");

    let events = [
        (job.dispatched_at.as_ref(), started.0, started.1),
        (resumed, "resumed", "with the progress of the attempt before".to_owned()),
        (job.accepted_at.as_ref(), "accepted", format!("by {worker}")),
        (job.progress_at.as_ref(), "progress", progress(job)),
        (job.ended_at.as_ref(), "done", end(job)),
    ];
    let happened = events
        .into_iter()
        .filter_map(|(at, kind, detail)| Some(TimelineEvent { at: at?.clone(), kind, detail }));

    let mut happened: Vec<_> = happened.collect();
    happened.sort_by(|a, b| a.at.cmp(&b.at));
    happened
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
mod tests {
    use super::*;
    use crate::handler::tests::item;

    fn at(second: u32) -> String {
        format!("2026-11-24T22:00:{second:02}.000Z")
    }

    #[test]
    fn a_timeline_is_in_the_order_of_time() {
        let job = JobItem {
            state: State::Failed,
            attempt: Some(1),
            dispatched_at: Some(at(1)),
            resumed: true,
            accepted_at: Some(at(2)),
            worker: Some("w1".into()),
            progress_at: Some(at(3)),
            percent: Some(40.0),
            message: Some("<b>reading</b>".into()),
            ended_at: Some(at(4)),
            error: Some("Worker.Failed".into()),
            cause: Some("no".into()),
            ..item()
        };
        let events = timeline(&job);

        let events: Vec<_> = events.iter().map(|event| (event.kind, &*event.detail)).collect();
        assert_eq!(
            events,
            [
                ("retried", "attempt 2"),
                ("resumed", "with the progress of the attempt before"),
                ("accepted", "by w1"),
                ("progress", "40 % <b>reading</b>"),
                ("done", "FAILED: Worker.Failed: no"),
            ]
        );
    }

    #[test]
    fn a_job_shows_neither_its_link_nor_its_log() {
        let job =
            JobItem { approval: Some("d=approve&t=sealed".into()), log: vec!["of the log".into()], ..item() };
        let json = serde_json::to_string(&Job::from(job)).unwrap();
        assert!(!json.contains("sealed") && !json.contains("of the log"), "{json}");
    }

    #[test]
    fn data_is_passed_on_word_for_word() {
        let job = JobItem { data: Some(r#"{"b":1.10,"a":1e400}"#.into()), ..item() };
        let json = serde_json::to_string(&Job::from(job)).unwrap();
        assert!(json.contains(r#""data":{"b":1.10,"a":1e400}"#), "{json}");
    }
}
