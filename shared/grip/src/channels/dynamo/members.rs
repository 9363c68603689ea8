//! Presence and revocations in the table.

use std::time::{Duration, SystemTime};

use aws_sdk_dynamodb::error::ProvideErrorMetadata as _;
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes, ReturnValue};

use super::append::DynamoStore;
use super::attributes::{Attributes, failed, seconds, string, text, time};
use crate::channels::store::{Member, Presence, Revocations, StoreError};

/// How long after its end the table itself deletes a member that no request has removed.
const LEFT_OVER: Duration = Duration::from_hours(24);

fn members(channel: &str) -> AttributeValue {
    text(format!("member#{channel}"))
}

fn member(row: &Attributes) -> Option<(Member, SystemTime)> {
    Some((serde_json::from_str(string(row, "member")?).ok()?, time(row, "until")?))
}

impl DynamoStore {
    async fn remove(
        &self,
        channel: &str,
        id: &str,
        over: Option<SystemTime>,
    ) -> Result<Option<Member>, StoreError> {
        let mut delete = self
            .client
            .delete_item()
            .table_name(&self.table)
            .key("pk", members(channel))
            .key("sk", text(id))
            .return_values(ReturnValue::AllOld);
        if let Some(now) = over {
            delete = delete
                .condition_expression("#until <= :now")
                .expression_attribute_names("#until", "until")
                .expression_attribute_values(":now", seconds(now));
        }

        match delete.send().await {
            Ok(deleted) => Ok(deleted.attributes().and_then(member).map(|(member, _)| member)),
            Err(error) if error.code() == Some("ConditionalCheckFailedException") => Ok(None),
            Err(error) => Err(failed("remove a member")(error)),
        }
    }
}

impl Presence for DynamoStore {
    async fn enter(&self, channel: &str, member: &Member, until: SystemTime) -> Result<bool, StoreError> {
        let json = serde_json::to_string(member).map_err(failed("write a member"))?;
        let written = self
            .client
            .put_item()
            .table_name(&self.table)
            .item("pk", members(channel))
            .item("sk", text(&member.id))
            .item("member", text(json))
            .item("until", seconds(until))
            .item("ttl", seconds(until + LEFT_OVER))
            .return_values(ReturnValue::AllOld)
            .send()
            .await
            .map_err(failed("add a member"))?;
        Ok(written.attributes.is_none_or(|old| old.is_empty()))
    }

    async fn renew(&self, channel: &str, id: &str, until: SystemTime) -> Result<bool, StoreError> {
        let sent = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", members(channel))
            .key("sk", text(id))
            .update_expression("SET #until = :until, #ttl = :ttl")
            .condition_expression("attribute_exists(pk)")
            .expression_attribute_names("#until", "until")
            .expression_attribute_names("#ttl", "ttl")
            .expression_attribute_values(":until", seconds(until))
            .expression_attribute_values(":ttl", seconds(until + LEFT_OVER))
            .send()
            .await;

        match sent {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some("ConditionalCheckFailedException") => Ok(false),
            Err(error) => Err(failed("renew a member")(error)),
        }
    }

    async fn leave(&self, channel: &str, id: &str) -> Result<Option<Member>, StoreError> {
        self.remove(channel, id, None).await
    }

    async fn evict(&self, channel: &str, id: &str, now: SystemTime) -> Result<Option<Member>, StoreError> {
        self.remove(channel, id, Some(now)).await
    }

    async fn members(&self, channel: &str) -> Result<Vec<(Member, SystemTime)>, StoreError> {
        let mut all = Vec::new();
        let mut start = None;
        loop {
            let page = self
                .client
                .query()
                .table_name(&self.table)
                .key_condition_expression("pk = :pk")
                .expression_attribute_values(":pk", members(channel))
                .consistent_read(true)
                .set_exclusive_start_key(start)
                .send()
                .await
                .map_err(failed("read the members"))?;
            all.extend(page.items().iter().filter_map(member));

            start = page.last_evaluated_key;
            if start.is_none() {
                return Ok(all);
            }
        }
    }
}

impl Revocations for DynamoStore {
    async fn revoke(&self, id: &str, until: SystemTime) -> Result<(), StoreError> {
        self.client
            .put_item()
            .table_name(&self.table)
            .item("pk", text(format!("revoked#{id}")))
            .item("sk", text("-"))
            .item("until", seconds(until))
            .item("ttl", seconds(until))
            .send()
            .await
            .map_err(failed("revoke a token"))?;
        Ok(())
    }

    async fn is_revoked(&self, ids: &[String]) -> Result<bool, StoreError> {
        let keys = ids.iter().map(|id| {
            Attributes::from([("pk".to_owned(), text(format!("revoked#{id}"))), ("sk".to_owned(), text("-"))])
        });
        let request =
            KeysAndAttributes::builder().set_keys(Some(keys.collect())).consistent_read(true).build();
        let request = request.map_err(failed("look up a revocation"))?;

        let found = self.client.batch_get_item().request_items(&self.table, request).send().await;
        let found = found.map_err(failed("look up a revocation"))?;
        if found.unprocessed_keys().is_some_and(|keys| !keys.is_empty()) {
            return Err(StoreError::new("look up a revocation", "the table is throttled"));
        }
        let rows = found.responses.unwrap_or_default().into_values().flatten();
        Ok(rows.into_iter().any(|row| time(&row, "until").is_some_and(|end| end > SystemTime::now())))
    }
}
