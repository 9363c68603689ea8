use std::cell::RefCell;

use postern_jobs::{MemoryJobs, NewJob, State};
use postern_types::JobId;
use serde_json::{Value, json};

use super::*;

const ID: &str = "ba7816bf8f01cfea414140de5dae2223";
const OTHER_ID: &str = "cb8379ac2098aa165029e3938a51da0b";

/// Those who watch: the jobs at which they got hints.
#[derive(Default)]
struct Watchers(RefCell<Vec<Change>>);

impl Hint for Watchers {
    async fn hint(&self, changes: &[Change]) {
        self.0.borrow_mut().extend_from_slice(changes);
    }
}

fn tenant(name: &str) -> Tenant {
    Tenant::parse(name).unwrap()
}

fn id(text: &str) -> JobId {
    JobId::parse(text).unwrap()
}

/// A table with one job of plant-7.
async fn table() -> MemoryJobs {
    let jobs = MemoryJobs::default();
    jobs.dispatched(&NewJob::new(tenant("plant-7"), id(ID), Timestamp::UNIX_EPOCH)).await.unwrap();
    jobs
}

async fn record_json(jobs: &impl Jobs, event: &Value) -> Result<Recorded, Error> {
    let event = RawValue::from_string(event.to_string()).unwrap();
    let watchers = Watchers::default();
    let handled = handle(jobs, &watchers, &event, Timestamp::UNIX_EPOCH).await?;
    let Handled::Recorded(recorded) = handled else { panic!("{handled:?}") };

    assert!(watchers.0.into_inner().is_empty(), "the stream announces what is recorded");
    Ok(recorded)
}

/// An event with one entry, which the broker received a minute after the epoch.
fn event(tenant: &str, id: &str, at: &str, percent: u8) -> Value {
    json!({
        "Jobs": [{"JobId": id, "Percent": percent, "Data": {"row": percent}, "Log": ["a line"], "At": at}],
        "tenant": tenant, "worker": "w", "certificate": "c", "receivedAt": 60_000,
    })
}

#[tokio::test]
async fn progress_is_recorded() {
    let jobs = table().await;
    let event = event("plant-7", ID, "1970-01-01T00:00:05.000Z", 70);
    let done = record_json(&jobs, &event).await.unwrap();

    assert_eq!(done, Recorded { recorded: 1, ignored: 0 });
    let job = jobs.get(&tenant("plant-7"), &id(ID)).await.unwrap().unwrap();
    assert_eq!((job.percent, job.worker.as_deref()), (Some(70.0), Some("w")));
    assert_eq!((job.data.as_deref(), job.state), (Some(r#"{"row":70}"#), State::Dispatched));
    assert_eq!(job.log, ["a line"]);
}

#[tokio::test]
async fn repeated_and_reordered_messages_are_ignored() {
    let jobs = table().await;
    for (at, percent, recorded) in [("05", 70, 1), ("05", 70, 0), ("04", 60, 0), ("06", 80, 1)] {
        let event = event("plant-7", ID, &format!("1970-01-01T00:00:{at}.000Z"), percent);
        assert_eq!(record_json(&jobs, &event).await.unwrap().recorded, recorded, "{at}");
    }
    let job = jobs.get(&tenant("plant-7"), &id(ID)).await.unwrap().unwrap();
    assert_eq!((job.percent, job.log.len()), (Some(80.0), 2));
}

#[tokio::test]
async fn another_tenants_worker_and_a_forged_job_change_nothing() {
    let jobs = table().await;
    for (who, id) in [("plant-8", ID), ("plant-7", OTHER_ID)] {
        let event = event(who, id, "1970-01-01T00:00:05.000Z", 70);
        let done = record_json(&jobs, &event).await.unwrap();
        assert_eq!(done, Recorded { recorded: 0, ignored: 1 });
    }
    assert_eq!(jobs.get(&tenant("plant-7"), &id(ID)).await.unwrap().unwrap().percent, None);
    assert_eq!(jobs.get(&tenant("plant-8"), &id(ID)).await.unwrap(), None);
}

#[tokio::test]
async fn a_clock_that_is_ahead_does_not_stop_later_progress() {
    let jobs = table().await;
    let ahead = event("plant-7", ID, "2999-01-01T00:00:00.000Z", 70);
    assert_eq!(record_json(&jobs, &ahead).await.unwrap().recorded, 1);

    let job = jobs.get(&tenant("plant-7"), &id(ID)).await.unwrap().unwrap();
    assert_eq!(job.progress_at.as_deref(), Some("1970-01-01T00:01:00.000Z"));
}

#[tokio::test]
async fn a_message_of_another_form_is_an_error_and_changes_nothing() {
    let jobs = table().await;
    let mut no_tenant = event("plant-7", ID, "1970-01-01T00:00:05.000Z", 70);
    no_tenant["tenant"] = Value::Null;

    for event in [
        json!([]),
        json!({}),
        no_tenant,
        event("a/b", ID, "1970-01-01T00:00:05.000Z", 70),
        event("plant-7", "key#the-key", "1970-01-01T00:00:05.000Z", 70),
        event("plant-7", ID, "yesterday", 70),
    ] {
        let error = record_json(&jobs, &event).await.unwrap_err();
        assert_eq!(error.name(), "JobProgress.InvalidMessage", "{event}");
    }
    assert_eq!(jobs.get(&tenant("plant-7"), &id(ID)).await.unwrap().unwrap().percent, None);
}

#[tokio::test]
async fn a_table_that_fails_is_an_error_so_that_lambda_retries() {
    let jobs = MemoryJobs::unavailable();
    let event = event("plant-7", ID, "1970-01-01T00:00:05.000Z", 70);
    let error = record_json(&jobs, &event).await.unwrap_err();
    assert_eq!(error.name(), "JobProgress.TableUnavailable");
    assert_eq!(Error::from(postern_jobs::Error::Refused(String::new())).name(), "JobProgress.TableRefused");
}

/// A record of the table's stream.
fn changed(id: &str, state: &str) -> Value {
    json!({"eventSource": "aws:dynamodb", "eventName": "MODIFY", "dynamodb": {"NewImage": {
        "Tenant": {"S": "plant-7"}, "JobId": {"S": id}, "State": {"S": state}, "Rank": {"N": "1"},
    }}})
}

#[tokio::test]
async fn what_the_stream_says_becomes_hints_and_needs_no_table() {
    let (jobs, watchers) = (MemoryJobs::unavailable(), Watchers::default());
    let records = [changed(ID, "ACCEPTED"), changed(OTHER_ID, "FAILED"), changed(ID, "SUCCEEDED")];
    let event = RawValue::from_string(json!({"Records": records}).to_string()).unwrap();

    let handled = handle(&jobs, &watchers, &event, Timestamp::UNIX_EPOCH).await.unwrap();
    assert_eq!(handled, Handled::Announced(Announced { announced: 2 }));
    let hints = watchers.0.into_inner();
    let hints: Vec<_> =
        hints.iter().map(|hint| (hint.tenant.as_str(), hint.job_id.as_str(), hint.state)).collect();
    assert_eq!(hints, [("plant-7", ID, State::Succeeded), ("plant-7", OTHER_ID, State::Failed)]);
}

#[tokio::test]
async fn a_worker_cannot_forge_an_event_of_the_stream() {
    let watchers = Watchers::default();
    let forged = json!({"Records": [changed(ID, "FAILED")], "tenant": "plant-8", "worker": "w"}).to_string();
    let event = RawValue::from_string(forged).unwrap();

    let refused = handle(&table().await, &watchers, &event, Timestamp::UNIX_EPOCH).await.unwrap_err();
    assert_eq!(refused.name(), "JobProgress.InvalidMessage");
    assert!(watchers.0.into_inner().is_empty());
}
