//! Idempotency keys inside nested Maps: the outer index travels through `ItemSelector`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::stack::Stack;
use crate::variants::Runs;

/// Replaces a machine by two nested Maps around its own task. The jobs' handler returns their idempotency keys.
fn nest(machine: &mut Value) {
    let mut task = machine["States"]["Jobs in the Input"]["ItemProcessor"]["States"]["Run the Job"].clone();
    let payload = &mut task["Parameters"]["Payload"];
    payload["Item.$"] = json!("$.item");
    payload["Job"]["Kind"] = json!("key");
    for field in ["Catch", "ResultPath", "Next"] {
        task.as_object_mut().unwrap().remove(field);
    }
    task["End"] = json!(true);

    let jobs = map(
        "$.jobs",
        &json!({
            "input.$": "$$.Map.Item.Value",
            "tenant.$": "$.tenant",
            "item.$": "States.Array($.plant, $$.Map.Item.Index)"
        }),
        "Run the Job",
        &task,
    );
    let plants = map(
        "$.plants",
        &json!({
            "jobs.$": "$$.Map.Item.Value",
            "tenant.$": "$.tenant",
            "plant.$": "$$.Map.Item.Index"
        }),
        "Jobs",
        &jobs,
    );
    *machine = json!({"StartAt": "Plants", "States": {"Plants": plants}});
}

/// A Map that is the last state, with one state inside.
fn map(items: &str, selector: &Value, name: &str, state: &Value) -> Value {
    json!({
        "Type": "Map",
        "ItemsPath": items,
        "ItemSelector": selector,
        "ItemProcessor": {
            "ProcessorConfig": {"Mode": "INLINE"},
            "StartAt": name,
            "States": {name: state}
        },
        "End": true
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_item_of_two_nested_maps_has_a_key_of_its_own_even_with_equal_inputs() {
    let mut stack = Stack::start("nested-maps").await;
    stack.test_worker().await;
    let mut runs = Runs::new(&stack.emulator.sdk_config());
    let arn = stack.outputs.get("FanOutStateMachineArn").to_owned();
    let input = json!({"tenant": "tenant1", "plants": [[1, 1, 1], [1, 1, 1], [1]]}).to_string();

    let mut keys = BTreeSet::new();
    for round in 1..=2 {
        let finished = runs.run_changed("fan-out", &arn, &input, nest).await;
        assert_eq!(finished.status, "SUCCEEDED", "{finished:?}");
        let output: Value = serde_json::from_str(&finished.output.unwrap()).unwrap();
        for plant in output.as_array().unwrap() {
            let of_plant = plant.as_array().unwrap().iter();
            keys.extend(of_plant.map(|answer| answer["result"].as_str().unwrap().to_owned()));
        }
        assert_eq!(keys.len(), 7 * round, "two items share a key: {output}");
    }
}
