//! Reads events of the table's stream: which jobs have changed.

use postern_types::{JobId, Tenant};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::state::State;

/// A job that has changed, and the state that it has now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The tenant whose job it is.
    pub tenant: Tenant,
    /// The job's id.
    pub job_id: JobId,
    /// The state after the change. Progress changes a job and leaves its state.
    pub state: State,
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "Records")]
    records: Vec<Record>,
    /// An IoT rule's stamp. No event of a stream has it, and a worker cannot remove it.
    tenant: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Record {
    #[serde(rename = "eventSource")]
    source: String,
    dynamodb: Images,
}

#[derive(Deserialize)]
struct Images {
    #[serde(rename = "NewImage")]
    new: Option<NewImage>,
}

/// The attributes of an item that a change needs. An item that keeps the attempts of an idempotency key has no state.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NewImage {
    tenant: Text,
    job_id: Text,
    state: Option<Text>,
}

#[derive(Deserialize)]
struct Text {
    #[serde(rename = "S")]
    text: String,
}

/// The jobs that an event of the table's stream says have changed, each once, with its last state. `None` if the event is
/// of another source: a message that a worker forges comes through an IoT rule, which stamps a tenant.
pub fn changes(event: &str) -> Option<Vec<Change>> {
    let Event { records, tenant } = serde_json::from_str(event).ok()?;
    if tenant.is_some() || records.iter().any(|record| record.source != "aws:dynamodb") {
        return None;
    }

    let mut changes: Vec<Change> = Vec::new();
    for change in records.into_iter().filter_map(change) {
        let is_same = |other: &&mut Change| other.job_id == change.job_id && other.tenant == change.tenant;
        match changes.iter_mut().find(is_same) {
            Some(before) => before.state = change.state,
            None => changes.push(change),
        }
    }
    Some(changes)
}

/// The change that a record describes. `None` for a deleted item, and for an item that is not a job.
fn change(record: Record) -> Option<Change> {
    let image = record.dynamodb.new?;
    Some(Change {
        tenant: Tenant::parse(&image.tenant.text).ok()?,
        job_id: JobId::parse(image.job_id.text).ok()?,
        state: image.state?.text.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const ID: &str = "ba7816bf8f01cfea414140de5dae2223";

    fn record(id: &str, state: Option<&str>) -> Value {
        let mut image =
            json!({"Tenant": {"S": "plant-7"}, "JobId": {"S": id}, "Log": {"L": [{"S": "a line"}]}});
        if let Some(state) = state {
            image["State"] = json!({"S": state});
        }
        json!({"eventName": "MODIFY", "eventSource": "aws:dynamodb", "dynamodb": {"Keys": {}, "NewImage": image}})
    }

    fn changes_of(event: &Value) -> Option<Vec<(String, State)>> {
        let changes = changes(&event.to_string())?;
        Some(changes.into_iter().map(|change| (change.job_id.to_string(), change.state)).collect())
    }

    #[test]
    fn a_job_that_changed_often_is_one_change_with_its_last_state() {
        let other = "0".repeat(32);
        let event = json!({"Records": [
            record(ID, Some("DISPATCHED")), record(&other, Some("ACCEPTED")), record(ID, Some("SUCCEEDED")),
        ]});
        let expected = [(ID.to_owned(), State::Succeeded), (other, State::Accepted)];
        assert_eq!(changes_of(&event).unwrap(), expected);
    }

    #[test]
    fn deletions_and_items_that_are_no_jobs_are_no_changes() {
        let deletion =
            json!({"eventName": "REMOVE", "eventSource": "aws:dynamodb", "dynamodb": {"Keys": {}}});
        let event = json!({"Records": [deletion, record("key#one", None), record(ID, None)]});
        assert!(changes_of(&event).unwrap().is_empty());
    }

    #[test]
    fn events_of_another_source_are_not_read() {
        let forged = json!({"tenant": "plant-8", "worker": "w", "Records": [record(ID, Some("FAILED"))]});
        let mut queue = record(ID, Some("FAILED"));
        queue["eventSource"] = json!("aws:sqs");
        for event in [forged, json!({"Records": [queue]}), json!({"Jobs": []}), json!([]), json!({})] {
            assert_eq!(changes_of(&event), None, "{event}");
        }
    }
}
