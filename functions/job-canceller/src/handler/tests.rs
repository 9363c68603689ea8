use std::cell::RefCell;

use jiff::SignedDuration;
use postern_jobs::{MemoryJobs, NewJob};
use postern_runtime::iot::PublishFailed;
use postern_types::{JobId, Tenant};
use serde_json::{Value, json};

use super::*;

const EXECUTION: &str = "arn:aws:states:eu-west-1:123456789012:execution:on-prem-job:one";

/// The workers of all tenants: the cancellations that they got.
#[derive(Default)]
struct Workers {
    cancelled: RefCell<Vec<String>>,
    is_down: bool,
}

impl Cancel for Workers {
    async fn cancel(
        &self,
        tenant: &Tenant,
        job_id: &JobId,
        reason: &str,
        expiry: u32,
    ) -> Result<(), PublishFailed> {
        if self.is_down {
            return Err(PublishFailed { reason: "HTTP 503".into(), again: true });
        }
        self.cancelled.borrow_mut().push(format!("{tenant} {} {expiry} {reason}", &job_id.as_str()[30..]));
        Ok(())
    }
}

fn id(number: u8) -> JobId {
    JobId::parse(format!("{number:032x}")).unwrap()
}

fn tenant(name: &str) -> Tenant {
    Tenant::parse(name).unwrap()
}

/// A table in which this execution has a job of each of two tenants, and another execution has one.
async fn table() -> MemoryJobs {
    let jobs = MemoryJobs::default();
    for (number, name, execution) in
        [(1, "plant-7", EXECUTION), (2, "plant-8", EXECUTION), (3, "plant-7", "e")]
    {
        let mut job = NewJob::new(tenant(name), id(number), Timestamp::UNIX_EPOCH);
        job.execution = Some(execution.to_owned());
        job.deadline = Some(Timestamp::UNIX_EPOCH + SignedDuration::from_secs(600));
        jobs.dispatched(&job).await.unwrap();
    }
    jobs
}

async fn cancel_json(jobs: &MemoryJobs, workers: &Workers, event: &Value) -> Result<Cancelled, Error> {
    let event = RawValue::from_string(event.to_string()).unwrap();
    cancel(jobs, workers, &event, Timestamp::UNIX_EPOCH).await
}

fn event(status: &str) -> Value {
    json!({"source": "aws.states", "detail-type": "Step Functions Execution Status Change",
        "detail": {"executionArn": EXECUTION, "status": status, "error": null, "cause": "no longer needed"}})
}

#[tokio::test]
async fn the_open_jobs_of_a_stopped_execution_are_cancelled_and_no_others() {
    let (jobs, workers) = (table().await, Workers::default());
    let done = cancel_json(&jobs, &workers, &event("ABORTED")).await.unwrap();

    assert_eq!(done, Cancelled { cancelled: 2 });
    let mut cancelled = workers.cancelled.borrow().clone();
    cancelled.sort_unstable();
    let reason = "600 the execution was stopped: no longer needed";
    assert_eq!(cancelled, [format!("plant-7 01 {reason}"), format!("plant-8 02 {reason}")]);
    let job = jobs.get(&tenant("plant-8"), &id(2)).await.unwrap().unwrap();
    assert_eq!((job.state, job.error.as_deref()), (State::Cancelled, Some("Worker.Cancelled")));
    assert!(jobs.get(&tenant("plant-7"), &id(3)).await.unwrap().unwrap().state.is_open());

    // The event may come twice.
    assert_eq!(cancel_json(&jobs, &workers, &event("ABORTED")).await.unwrap().cancelled, 0);
}

#[tokio::test]
async fn each_status_has_its_end() {
    for (status, state) in [
        ("FAILED", State::Cancelled),
        ("TIMED_OUT", State::TimedOut),
        ("SUCCEEDED", State::Dispatched),
        ("RUNNING", State::Dispatched),
    ] {
        let jobs = table().await;
        cancel_json(&jobs, &Workers::default(), &event(status)).await.unwrap();
        assert_eq!(jobs.get(&tenant("plant-7"), &id(1)).await.unwrap().unwrap().state, state, "{status}");
    }
}

#[tokio::test]
async fn a_cancellation_that_is_not_published_is_tried_again() {
    let (jobs, down) = (table().await, Workers { is_down: true, ..Workers::default() });
    let error = cancel_json(&jobs, &down, &event("ABORTED")).await.unwrap_err();
    assert_eq!(error.name(), "JobCanceller.PublishFailed");

    let up = Workers::default();
    assert_eq!(cancel_json(&jobs, &up, &event("ABORTED")).await.unwrap().cancelled, 2);
}

#[tokio::test]
async fn an_event_of_another_form_and_a_table_that_fails_are_errors() {
    for event in [json!([]), json!({}), json!({"detail": {"status": "ABORTED"}})] {
        let error = cancel_json(&table().await, &Workers::default(), &event).await.unwrap_err();
        assert_eq!(error.name(), "JobCanceller.InvalidEvent");
    }

    let error = cancel_json(&MemoryJobs::unavailable(), &Workers::default(), &event("ABORTED")).await;
    assert_eq!(error.unwrap_err().name(), "JobCanceller.TableUnavailable");
    let refused = Error::from(postern_jobs::Error::Refused(String::new()));
    assert_eq!(refused.name(), "JobCanceller.TableRefused");
}
