//! `make dlq` and `make redrive`: what they print, what they resend, and that repeats are harmless.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use postern_local::Deployment;
use serde_json::{Value, json};

use crate::stack::Stack;

const TEMPLATE: &str = "template.yml";

/// Runs `infra/dead_letters.py` on the stack; whether it succeeded, and its output.
async fn run(stack: &Stack, arguments: &[&str]) -> (bool, String) {
    let mut command = stack.project.script("infra/dead_letters.py");
    command.env_remove("AWS_PROFILE").env_remove("AWS_SESSION_TOKEN").envs(stack.emulator.environment());
    let output = command.args(arguments).args(["--stack", stack.outputs.stack()]).output().await.unwrap();

    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

/// Takes the next message off the queue and puts it back, as a redrive that was interrupted before the deletion leaves it.
async fn again(stack: &Stack, body: &Value) {
    let sqs = aws_sdk_sqs::Client::new(&stack.emulator.sdk_config());
    let queue = stack.outputs.get("DeadLetterQueueUrl");
    sqs.send_message().queue_url(queue).message_body(body.to_string()).send().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_listed_without_its_token_and_resent_and_a_second_time_changes_nothing() {
    let grants = "[states:SendTaskSuccess, states:SendTaskFailure, states:SendTaskHeartbeat]";
    let broken = Deployment::new("test").edit(TEMPLATE, grants, "[states:SendTaskHeartbeat]");
    let mut stack = Stack::with("dlq", broken).await;
    stack.worker().await;
    let execution = stack.execute(r#"{"a":15,"b":42}"#).await;
    let tokens = stack.tokens(&execution, 1).await;
    let dead_letter = stack.dead_letter().await;
    again(&stack, &dead_letter).await;

    let (listed, output) = run(&stack, &["list"]).await;
    assert!(listed, "{output}");
    let job = postern_types::TaskToken::parse(tokens[0].as_str()).unwrap().job_id().to_string();
    for expected in [job.as_str(), "tenant tenant1", "TaskTokenDone.AccessDenied", "age "] {
        assert!(output.contains(expected), "{expected:?} is missing in: {output}");
    }
    assert!(!output.contains(&tokens[0]) && !output.contains("57"), "a token or a payload is in: {output}");

    // The cause is removed first, as docs/operate.md says.
    stack.emulator.deploy(&Deployment::new("test")).await.unwrap();
    let (_, output) = run(&stack, &["redrive"]).await;
    assert!(output.contains("would be sent") && output.contains("Nothing was done"), "{output}");
    assert_eq!(stack.dead_letters().await, 1, "a dry run takes nothing away");

    let (resent, output) = run(&stack, &["redrive", "--yes"]).await;
    assert!(resent && output.contains("resent and deleted"), "{output}");
    let finished = stack.end(&execution).await;
    assert_eq!(finished.output.as_deref(), Some(r#"{"a":15,"b":42,"lambdaOutput":{"result":57}}"#));

    again(&stack, &dead_letter).await;
    let (resent, output) = run(&stack, &["redrive", "--yes"]).await;
    assert!(resent && output.contains("resent and deleted"), "{output}");
    assert_eq!(stack.end(&execution).await, finished, "the second answer reaches a closed task");
    assert_eq!(run(&stack, &["list"]).await, (true, "the stack test has no dead letters\n".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_rule_could_not_hand_over_is_resent_and_what_is_invalid_is_left_until_it_is_discarded() {
    let principal = "Principal: iot.amazonaws.com\n      SourceArn: !GetAtt AnswerRule.Arn";
    let forbidden = principal.replace("iot.amazonaws.com", "events.amazonaws.com");
    let broken = Deployment::new("test").edit(TEMPLATE, principal, &forbidden);
    let mut stack = Stack::with("dlq-rule", broken).await;
    stack.worker().await;
    let execution = stack.execute(r#"{"a":1,"b":2}"#).await;
    let dead_letter = stack.dead_letter().await;

    stack.emulator.deploy(&Deployment::new("test")).await.unwrap();
    stack.publish(r#"{"no":"token"}"#).await;
    let invalid = stack.dead_letter().await;
    again(&stack, &dead_letter).await;
    again(&stack, &invalid).await;

    let (resent, output) = run(&stack, &["redrive", "--yes"]).await;
    assert!(resent && output.contains("tenant tenant1"), "{output}");
    assert!(output.contains("resent and deleted") && output.contains("itself is invalid"), "{output}");
    assert_eq!(stack.end(&execution).await.status, "SUCCEEDED");

    assert_eq!(stack.dead_letters().await, 1);
    let (discarded, output) = run(&stack, &["redrive", "--yes", "--discard"]).await;
    assert!(discarded && output.contains("deleted"), "{output}");
    assert_eq!(stack.dead_letters().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_dead_letter_goes_to_the_function_that_failed_and_a_schedules_to_none() {
    let stack = Stack::start("dlq-functions").await;
    let function = stack.outputs.get("JobProgressFunctionName");
    let event = json!({"tenant": "tenant1", "worker": "plant-7", "Jobs": []});
    let arn = format!("arn:aws:lambda:us-east-1:123456789012:function:{function}:$LATEST");
    let failed = json!({
        "requestContext": {"functionArn": arn, "condition": "RetriesExhausted"},
        "requestPayload": event,
        "responsePayload": {"errorType": "JobProgress.TableUnavailable", "errorMessage": "the table does not answer"},
    });
    let payload = BASE64.encode(r#"{"Jobs":[]}"#);
    let refused =
        json!({"ruleName": "ProgressRule", "topic": "tenant1/progress", "base64OriginalPayload": payload});
    let started = json!({"a": 1, "b": 2});
    for body in [&failed, &refused, &started] {
        again(&stack, body).await;
    }

    let (_, output) = run(&stack, &["redrive"]).await;
    assert_eq!(output.matches(&format!("would be sent to {function} again")).count(), 2, "{output}");
    assert!(output.contains("schedule: no execution could be started"), "{output}");

    let (resent, output) = run(&stack, &["redrive", "--yes"]).await;
    assert!(resent && output.matches("resent and deleted").count() == 2, "{output}");
    assert_eq!(stack.dead_letters().await, 1, "what a schedule could not start is left: {output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_kafka_records_is_resent_and_a_second_time_writes_no_other_object() {
    let deployment = Deployment::new("test").parameter("Kafka", "true");
    let stack = Stack::with("dlq-kafka", deployment).await;
    let event = std::fs::read_to_string(stack.project.file("events/msk-to-s3/two-partitions.json")).unwrap();
    let record = json!({
        "requestContext": {"condition": "RetryAttemptsExhausted", "approximateInvokeCount": 11},
        "KafkaBatchInfo": {"recordsInfo": {"customer-0": {"firstRecordOffset": "50", "lastRecordOffset": "51"}}},
        "payload": event,
    });

    let s3 = aws_sdk_s3::Client::new(&stack.emulator.sdk_config());
    let objects = async || {
        let listed = s3.list_objects_v2().bucket(stack.outputs.get("CsvBucketName")).send().await.unwrap();
        let mut keys: Vec<String> = listed.contents().iter().map(|one| one.key().unwrap().into()).collect();
        keys.sort();
        keys
    };

    for attempt in 1..=2 {
        let bucket = stack.outputs.get("MskDeadLetterBucketName");
        stack.emulator.put(bucket, "batch", &record.to_string()).await.unwrap();
        let (_, output) = run(&stack, &["list"]).await;
        assert!(output.contains("customer-0:50-51") && output.contains("RetryAttemptsExhausted"), "{output}");
        assert!(!output.contains("Ana"), "a payload is in: {output}");

        let (resent, output) = run(&stack, &["redrive", "--yes"]).await;
        assert!(resent && output.contains("resent and deleted"), "attempt {attempt}: {output}");
        assert_eq!(objects().await.len(), 2, "attempt {attempt}: one object for each partition");
        assert_eq!(run(&stack, &["list"]).await.1, "the stack test has no dead letters\n");
    }
}
