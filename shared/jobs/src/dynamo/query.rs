//! Builds the bodies of `Query` and `BatchGetItem`, and reads their answers.

use std::collections::BTreeMap;

use postern_types::{JobId, Tenant};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::attributes::{Attribute, Item};
use crate::cursor::Cursor;
use crate::error::Error;
use crate::model::{Filter, JobItem};
use crate::state::Rank;

/// The last key of a page, in the form in which the next query takes it.
pub(super) type Key = BTreeMap<String, Attribute>;

/// The answer to a query.
#[derive(Deserialize)]
pub(super) struct Answer {
    #[serde(rename = "Items", default)]
    pub(super) items: Vec<Item>,
    /// Where the next page begins. The last page has none.
    #[serde(rename = "LastEvaluatedKey", default)]
    pub(super) last_key: Option<Key>,
}

/// A page of a tenant's jobs, the newest first.
pub(super) fn of_tenant(
    table: &str,
    tenant: &Tenant,
    filter: &Filter,
    limit: u8,
    cursor: Option<&Cursor>,
) -> Value {
    let (index, attribute, hash) = match filter.state {
        Some(state) => ("ByState", "TenantState", format!("{tenant}#{state}")),
        None => ("ByTime", "Tenant", tenant.to_string()),
    };
    let (from, to) = filter.range();

    let mut body = json!({
        "TableName": table,
        "IndexName": index,
        "KeyConditionExpression": "#hash = :hash AND #range BETWEEN :from AND :to",
        "ExpressionAttributeNames": {"#hash": attribute, "#range": "DispatchedAt"},
        "ExpressionAttributeValues": {":hash": {"S": &hash}, ":from": {"S": from}, ":to": {"S": to}},
        "ScanIndexForward": false,
        "Limit": limit,
    });
    if let Some(Cursor { dispatched_at, job_id }) = cursor {
        body["ExclusiveStartKey"] = json!({
            "Tenant": {"S": tenant.as_str()},
            "JobId": {"S": job_id.as_str()},
            "DispatchedAt": {"S": dispatched_at},
        });
        body["ExclusiveStartKey"][attribute] = json!({"S": hash});
    }
    body
}

/// A page of an execution's open jobs.
pub(super) fn of_execution(table: &str, execution: &str, start: Option<&Key>) -> Value {
    let mut body = json!({
        "TableName": table,
        "IndexName": "ByExecution",
        "KeyConditionExpression": "#Execution = :execution",
        "FilterExpression": "#Rank <= :open",
        "ExpressionAttributeNames": {"#Execution": "Execution", "#Rank": "Rank"},
        "ExpressionAttributeValues": {
            ":execution": {"S": execution},
            ":open": {"N": Rank::Accepted.number().to_string()},
        },
    });
    if let Some(start) = start {
        body["ExclusiveStartKey"] = json!(start);
    }
    body
}

/// What a list of attempts needs of each job: neither the log nor the handler's data, which are large.
pub(super) const OF_AN_ATTEMPT: [&str; 17] = [
    "Tenant",
    "JobId",
    "State",
    "Rank",
    "Kind",
    "Name",
    "Attempt",
    "Worker",
    "DispatchedAt",
    "AcceptedAt",
    "EndedAt",
    "Percent",
    "Message",
    "ProgressAt",
    "Resumed",
    "Error",
    "Cause",
];

/// What the next attempt needs of each job.
pub(super) const DATA_OF_AN_ATTEMPT: [&str; 5] = ["Tenant", "JobId", "State", "DispatchedAt", "Data"];

/// These attributes of the jobs with these ids. The read is consistent.
pub(super) fn of_jobs(table: &str, tenant: &Tenant, ids: &[String], attributes: &[&str]) -> Value {
    let keys = ids.iter().map(|id| json!({"Tenant": {"S": tenant.as_str()}, "JobId": {"S": id}}));
    let names: BTreeMap<_, _> = attributes.iter().map(|name| (format!("#{name}"), *name)).collect();
    let projection = names.keys().map(String::as_str).collect::<Vec<_>>().join(", ");

    let request = json!({
        "Keys": keys.collect::<Vec<_>>(),
        "ConsistentRead": true,
        "ProjectionExpression": projection,
        "ExpressionAttributeNames": names,
    });
    json!({"RequestItems": {table: request}})
}

/// The answer to `BatchGetItem`.
#[derive(Deserialize)]
pub(super) struct Jobs {
    #[serde(rename = "Responses")]
    tables: BTreeMap<String, Vec<Item>>,
    #[serde(rename = "UnprocessedKeys", default)]
    unprocessed: BTreeMap<String, Value>,
}

/// The jobs of an answer. DynamoDB leaves out those for which it has no capacity at the moment.
pub(super) fn jobs_of(answer: Jobs) -> Result<Vec<JobItem>, Error> {
    if !answer.unprocessed.is_empty() {
        return Err(Error::Unavailable("it read only a part of the jobs".into()));
    }
    answer.tables.into_values().flatten().map(Item::into_job).collect()
}

/// The cursor of the page that begins after `key`.
pub(super) fn cursor(mut key: Key) -> Result<Cursor, Error> {
    let mut text = |name: &str| match key.remove(name) {
        Some(Attribute::S(text)) => Ok(text),
        _ => Err(Error::Malformed(format!("the last key of a page has no text {name}"))),
    };

    let (dispatched_at, id) = (text("DispatchedAt")?, text("JobId")?);
    let job_id = JobId::parse(&*id).map_err(|error| Error::Malformed(error.to_string()))?;
    Ok(Cursor { dispatched_at, job_id })
}
