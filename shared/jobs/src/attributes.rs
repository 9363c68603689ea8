//! Items in DynamoDB's own JSON, in which each value names its type: `{"JobId": {"S": "ba78…"}, "Rank": {"N": "1"}}`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use postern_types::{JobId, Tenant};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::model::{JobItem, OpenJob};
use crate::tail::tail;

/// A value of the types that Postern writes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Attribute {
    S(String),
    N(String),
    #[serde(rename = "BOOL")]
    Bool(bool),
    L(Vec<Attribute>),
}

impl Attribute {
    pub(crate) fn number(number: impl ToString + Copy) -> Self {
        Self::N(number.to_string())
    }

    pub(crate) fn lines(lines: &[String]) -> Self {
        Self::L(lines.iter().cloned().map(Self::S).collect())
    }
}

impl From<&str> for Attribute {
    fn from(text: &str) -> Self {
        Self::S(text.to_owned())
    }
}

impl From<String> for Attribute {
    fn from(text: String) -> Self {
        Self::S(text)
    }
}

impl From<bool> for Attribute {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

/// An item of the table, or of one of its indexes.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub(crate) struct Item(BTreeMap<String, Attribute>);

impl Item {
    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        match self.0.remove(name)? {
            Attribute::S(text) => Some(text),
            _ => None,
        }
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        match self.0.get(name)? {
            Attribute::N(number) => number.parse().ok(),
            _ => None,
        }
    }

    pub(crate) fn lines(&mut self, name: &str) -> Vec<String> {
        let Some(Attribute::L(lines)) = self.0.remove(name) else { return Vec::new() };
        let text = |line| if let Attribute::S(text) = line { Some(text) } else { None };
        lines.into_iter().filter_map(text).collect()
    }

    fn required(&mut self, name: &'static str) -> Result<String, Error> {
        self.text(name).ok_or_else(|| Error::Malformed(format!("it has no text {name}")))
    }

    /// The item as a job.
    pub(crate) fn into_job(mut self) -> Result<JobItem, Error> {
        let state = self.required("State")?.parse().map_err(Error::Malformed)?;
        let log = self.lines("Log");

        Ok(JobItem {
            tenant: self.required("Tenant")?,
            job_id: self.required("JobId")?,
            state,
            rank: self.number("Rank").unwrap_or_default(),
            kind: self.text("Kind"),
            name: self.text("Name"),
            execution: self.text("Execution"),
            state_name: self.text("StateName"),
            attempt: self.number("Attempt"),
            idempotency_key: self.text("IdempotencyKey"),
            worker: self.text("Worker"),
            topic: self.text("Topic"),
            dispatched_at: self.text("DispatchedAt"),
            accepted_at: self.text("AcceptedAt"),
            ended_at: self.text("EndedAt"),
            deadline: self.text("Deadline"),
            percent: self.number("Percent"),
            message: self.text("Message"),
            data: self.text("Data"),
            progress_at: self.text("ProgressAt"),
            log: tail(&log).to_vec(),
            resumed: self.0.get("Resumed") == Some(&Attribute::Bool(true)),
            error: self.text("Error"),
            cause: self.text("Cause"),
            approval: self.text("Approval"),
        })
    }

    /// The item as a job that has not ended.
    pub(crate) fn into_open_job(mut self) -> Result<OpenJob, Error> {
        let tenant = self.required("Tenant")?;
        let id = self.required("JobId")?;
        let deadline = self.text("Deadline").and_then(|deadline| deadline.parse::<Timestamp>().ok());

        Ok(OpenJob {
            tenant: Tenant::parse(&tenant).map_err(|error| Error::Malformed(error.to_string()))?,
            job_id: JobId::parse(&*id).map_err(|error| Error::Malformed(error.to_string()))?,
            deadline,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_have_the_form_of_dynamodb() {
        let list = Attribute::L(vec!["a".into(), Attribute::number(1.5), true.into()]);
        let json = r#"{"L":[{"S":"a"},{"N":"1.5"},{"BOOL":true}]}"#;

        assert_eq!(serde_json::to_string(&list).unwrap(), json);
        assert_eq!(serde_json::from_str::<Attribute>(json).unwrap(), list);
    }

    #[test]
    fn an_item_without_a_state_is_malformed() {
        let item: Item = serde_json::from_str(r#"{"Tenant":{"S":"t"},"JobId":{"S":"j"}}"#).unwrap();
        assert_eq!(item.into_job(), Err(Error::Malformed("it has no text State".into())));
    }
}
