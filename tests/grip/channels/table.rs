//! The DynamoDB table of the channels, in the emulator.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use grip::channels::Position;
use serde_json::Value;

use super::verdict::Truth;

/// The table's name.
pub(super) const TABLE: &str = "channels";

type Row = HashMap<String, AttributeValue>;

/// Makes the table of the channels, as `docs/grip-channels.md` describes it.
pub(super) async fn create(client: &Client) {
    create_as(client, TABLE).await;
}

/// Makes such a table of another name.
pub(super) async fn create_as(client: &Client, name: &str) {
    let attribute = |name: &str| {
        let definition = AttributeDefinition::builder().attribute_name(name);
        definition.attribute_type(ScalarAttributeType::S).build().unwrap()
    };
    let key =
        |name: &str, kind| KeySchemaElement::builder().attribute_name(name).key_type(kind).build().unwrap();
    client
        .create_table()
        .table_name(name)
        .attribute_definitions(attribute("pk"))
        .attribute_definitions(attribute("sk"))
        .key_schema(key("pk", KeyType::Hash))
        .key_schema(key("sk", KeyType::Range))
        .billing_mode(BillingMode::PayPerRequest)
        .send()
        .await
        .unwrap();
}

/// Reads a channel's history into the truth. Returns its rows in order.
pub(super) async fn read(client: &Client, channel: &str, truth: &mut Truth) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut start = None;
    loop {
        let page = client
            .query()
            .table_name(TABLE)
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(":pk", AttributeValue::S(format!("item#{channel}")))
            .consistent_read(true)
            .set_exclusive_start_key(start)
            .send()
            .await
            .unwrap();
        rows.extend(page.items.unwrap_or_default());
        start = page.last_evaluated_key;
        if start.is_none() {
            break;
        }
    }

    for row in &rows {
        let content: Value = serde_json::from_str(row["content"].as_s().unwrap()).unwrap();
        truth.items.insert((channel.to_owned(), position(row)), content);
    }
    if let Some(newest) = rows.last() {
        truth.last.insert(channel.to_owned(), position(newest));
    }
    rows
}

/// Deletes the oldest rows of a channel, as an expiry does, but for `left` of them.
pub(super) async fn delete_but(client: &Client, channel: &str, left: usize, truth: &mut Truth) {
    let rows = read(client, channel, truth).await;
    for row in &rows[..rows.len().saturating_sub(left)] {
        // Before it is gone, so that a client that is told of it at once is believed.
        truth.deleted.insert((channel.to_owned(), position(row)));
        let delete = client.delete_item().table_name(TABLE);
        delete.key("pk", row["pk"].clone()).key("sk", row["sk"].clone()).send().await.unwrap();
    }
}

fn position(row: &Row) -> Position {
    let epoch = u64::from_str_radix(row["epoch"].as_s().unwrap(), 16).unwrap();
    Position::new(epoch, row["sk"].as_s().unwrap().parse().unwrap())
}
