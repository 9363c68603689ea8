//! A job as the API shows it.

use postern_jobs::JobItem;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::tests::item;

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
