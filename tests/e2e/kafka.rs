//! `msk-to-s3` as the template deploys it. The tests in `tests/kafka` run it with a broker and without the template.

use std::process::Command;
use std::time::Duration;

use postern_demos::kafka::broker::{Broker, Produced, create_topic, produce, program};
use postern_demos::kafka::reader::Reading;
use postern_kafka_poller::event::Origin;
use postern_kafka_poller::source::committed;
use postern_local::{Deployment, EventSourceMapping, Process};
use serde_json::Value;

use crate::stack::{Stack, TIMEOUT};
use crate::variants::{Runs, reachable};

const TOPIC: &str = "customer";
const CLUSTER: &str =
    "arn:aws:kafka:us-east-1:111111111111:cluster/producer/00000000-0000-4000-8000-000000000000-1";
const CONNECTION: &str = "arn:aws:kafka:us-east-1:123456789012:vpc-connection/111111111111/producer/00000000-0000-4000-8000-000000000000-2";

/// A deployment with Kafka, whose topic belongs to another account.
fn with_kafka() -> Deployment {
    without_source().parameter("MskSourceArn", CONNECTION)
}

fn without_source() -> Deployment {
    Deployment::new("test").parameter("Kafka", "true").parameter("MskClusterArn", CLUSTER)
}

/// Invokes the function with a batch of two partitions and returns its answer.
async fn invoke_with_batch(stack: &Stack) -> Value {
    let event = stack.project.file("events/msk-to-s3/two-partitions.json");
    let answer = stack.emulator.invoke(stack.outputs.get("MskToS3FunctionName"), &event).await.unwrap();
    serde_json::from_str(&answer).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_becomes_objects_in_the_bucket_of_the_sample() {
    let stack = Stack::with("kafka", with_kafka()).await;
    let answer = invoke_with_batch(&stack).await;
    assert_eq!(answer["batchItemFailures"], Value::Array(Vec::new()), "{answer}");
    let bucket = stack.outputs.get("CsvBucketName");
    assert_eq!(bucket, "cross-account-lambda-consumer-data-us-east-1-123456789012");
    let s3 = aws_sdk_s3::Client::new(&stack.emulator.sdk_config());
    let objects = s3.list_objects_v2().bucket(bucket).send().await.unwrap();
    assert_eq!(objects.contents().len(), 2, "one object for each partition");

    let mapping = mapping(&stack).await;
    assert_eq!(
        (mapping.topics.concat(), &*mapping.kafka.consumer_group_id),
        (TOPIC.into(), "msk-lambda-iam")
    );

    assert_eq!(mapping.function_response_types, ["ReportBatchItemFailures"]);
    let dead_letters = stack.outputs.get("MskDeadLetterBucketName");
    assert_eq!(mapping.destination_config.on_failure.destination, format!("arn:aws:s3:::{dead_letters}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_permission_to_put_objects_the_batch_fails_with_access_denied() {
    let put =
        |action: &str| format!("Action: s3:{action}\n                Resource: !Sub ${{CsvBucket.Arn}}/*");
    let deployment = with_kafka().edit("template.yml", &put("PutObject"), &put("GetObject"));
    let stack = Stack::with("kafka-no-put", deployment).await;
    let answer = invoke_with_batch(&stack).await;
    assert_eq!(answer["errorType"], "MskToS3.AccessDenied", "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stack_contains_follows_from_its_parameters() {
    let stack = Stack::with("kafka-no-source", without_source()).await;
    assert!(
        stack.outputs.get("MskToS3RoleArn").starts_with("arn:aws:iam:"),
        "the cluster's policy needs the role"
    );
    let function = stack.outputs.get("MskToS3FunctionName");
    assert!(stack.emulator.mappings(function).await.unwrap().is_empty());

    let jobs =
        stack.emulator.deploy(&Deployment::new("jobs").parameter("TenantFilter", "other")).await.unwrap();
    assert_eq!(jobs.get("MskToS3FunctionName"), "");

    // Tables need folders by partition.
    let by_time = with_tables().parameter("CsvKeyLayout", "time");
    let refused = stack.emulator.deploy(&by_time).await.unwrap_err().to_string();
    assert!(refused.contains("TableSchedule needs CsvKeyLayout=partition"), "{refused}");
}

/// The event source mapping of the stack's function.
async fn mapping(stack: &Stack) -> EventSourceMapping {
    let mappings = stack.emulator.mappings(stack.outputs.get("MskToS3FunctionName")).await.unwrap();
    let [mapping] = mappings.as_slice() else { panic!("{mappings:?}") };
    mapping.clone()
}

/// Starts a broker and produces these values to the only partition of the template's topic.
async fn broker_with(stack: &Stack, values: &[String]) -> Broker {
    let program = program(&stack.project.file(".postern/kafka-venv")).unwrap();
    let broker = Broker::start(&program, &stack.folder.join("broker")).await.unwrap();
    create_topic(&broker.address, TOPIC, 1).await.unwrap();

    let records =
        values.iter().map(|value| Produced { partition: Some(0), key: "k", value: Some(value.as_bytes()) });
    produce(&broker.address, TOPIC, records).unwrap();
    broker
}

/// Waits until the mapping's group has committed this offset.
async fn until_committed(broker: &Broker, group: &str, offset: i64) {
    let wait = async {
        loop {
            let (origin, group) = (Origin::new(TOPIC, &broker.address), group.to_owned());
            let offsets = tokio::task::spawn_blocking(move || committed(&origin, &group, 1)).await.unwrap();
            if offsets.is_ok_and(|offsets| offsets.get(&0) == Some(&offset)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(TIMEOUT, wait).await.is_ok(), "offset {offset} is not committed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_filter_of_the_template_decides_which_records_the_poller_delivers() {
    let deployment = with_kafka()
        .parameter("CsvRecordFormat", "json")
        .parameter("CsvColumns", "id,country")
        .parameter("MskFilter", r#"{"value":{"country":["DE"]}}"#);
    let stack = Stack::with("kafka-filter", deployment).await;
    // Without a window the records are delivered as soon as they are there.
    let mapping = EventSourceMapping { maximum_batching_window_in_seconds: 0, ..mapping(&stack).await };

    let country = |id: u32| if id.is_multiple_of(3) { "DE" } else { "PT" };
    let values: Vec<String> =
        (0..30).map(|id| format!(r#"{{"id":{id},"country":"{}"}}"#, country(id))).collect();
    let broker = broker_with(&stack, &values).await;
    let group = &mapping.kafka.consumer_group_id;
    let mut poller = Command::new(stack.project.program("postern-kafka-poller"));
    poller
        .envs(stack.emulator.environment())
        .args(["--bootstrap-servers", &broker.address, "--consumer-group-id", group])
        .args(["--function", stack.outputs.get("MskToS3FunctionName")])
        .args(mapping.poller_options());
    let _poller = Process::start("the poller", &mut poller, &stack.folder.join("poller.log")).unwrap();
    until_committed(&broker, group, 30).await;

    let s3 = aws_sdk_s3::Client::new(&stack.emulator.sdk_config());
    let reading = Reading::of(&s3, stack.outputs.get("CsvBucketName"), "").await.unwrap();
    let read: Vec<Vec<String>> = reading.records.into_values().collect();
    let matching: Vec<Vec<String>> =
        (0..30).step_by(3).map(|id| vec![id.to_string(), "DE".to_owned()]).collect();
    assert_eq!(read, matching);
}

/// A deployment with Kafka and compaction.
fn with_tables() -> Deployment {
    with_kafka().parameter("TableSchedule", "rate(1 hour)").parameter("CsvColumns", "id,name,city,orders")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_compaction_machine_makes_tables_and_each_of_its_retries_and_catches_is_reached() {
    const MACHINE: &str = "CompactStateMachineArn";
    let stack = Stack::without_waits("kafka-tables", with_tables()).await;
    let answer = invoke_with_batch(&stack).await;
    assert_eq!(answer["batchItemFailures"], Value::Array(Vec::new()), "{answer}");
    let mut runs = Runs::new(&stack.emulator.sdk_config());

    let arn = stack.outputs.get(MACHINE);
    for _ in 0..2 {
        let finished = runs.run("compact", arn, "{}").await;
        assert_eq!(finished.status, "SUCCEEDED", "{finished:?}");
    }
    let bucket = stack.outputs.get("CsvBucketName");
    let s3 = aws_sdk_s3::Client::new(&stack.emulator.sdk_config());
    let tables = s3.list_objects_v2().bucket(bucket).prefix("tables/customer/hour=").send().await.unwrap();
    let keys: Vec<_> = tables.contents().iter().filter_map(|object| object.key()).collect();
    let key = |partition: u32, first: u32, last: u32| {
        format!("tables/customer/hour=2026-01-01T00/{partition}-{first:020}-{last:020}.parquet")
    };
    assert_eq!(keys, [key(0, 50, 51), key(2, 7, 7)]);

    run_throttled(&stack, &mut runs).await;
    let definition = runs.definition(arn).await;
    let missed: Vec<_> = reachable(&definition)
        .into_iter()
        .filter(|rule| !runs.reached.contains(&format!("compact: {rule}")))
        .collect();
    assert!(missed.is_empty(), "no execution reached these rules: {missed:?}");
}

/// Runs the machine in a second stack, whose function is throttled: first the list of the partitions fails, then, in a run
/// that begins with a partition, that partition.
async fn run_throttled(stack: &Stack, runs: &mut Runs) {
    let description = "Description: Compacts CSV objects into tables";
    let throttled = format!("{description}\n      ReservedConcurrentExecutions: 0");
    let mut throttled = Deployment::new("throttled").edit("template.yml", description, &throttled);
    for (name, value) in [
        ("Kafka", "true"),
        ("MskClusterArn", CLUSTER),
        ("TenantFilter", "throttled"),
        ("CsvBucketName", "throttled-tables"),
        ("TableSchedule", "rate(1 hour)"),
        ("CsvColumns", "id,name,city,orders"),
    ] {
        throttled = throttled.parameter(name, value);
    }
    let throttled = stack.emulator.deploy(&throttled).await.unwrap();
    let arn = throttled.get("CompactStateMachineArn");
    let finished = runs.run("compact", arn, "{}").await;
    assert_eq!(finished.error.as_deref(), Some("Lambda.TooManyRequestsException"), "{finished:?}");
    let partitions = r#"{"Partitions":[{"Partition":0,"ClosedBefore":"2026-01-02T00:00:00Z"}]}"#;
    let finished = runs
        .run_changed("compact", arn, partitions, |definition| {
            definition["StartAt"] = "Compact Each Partition".into();
        })
        .await;
    assert_eq!(finished.error.as_deref(), Some("Compact.PartitionsFailed"), "{finished:?}");
}
