//! The claim check: inputs and results that are too large for a message, from the state machine through S3 to the worker
//! and back.
//!
//! `POSTERN_TEST_CLAIM_BYTES` sets the size of the result that survives three kills.

mod device;
mod tenants;

use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ChecksumAlgorithm;
use postern_local::{Deployment, Finished};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::stack::{MACHINE, Stack, TIMEOUT};

const TEMPLATE: &str = "template.yml";

/// A deployment with a claim check, whose jobs run in the handler of this kind.
fn deployment(kind: &str) -> Deployment {
    Deployment::new("test")
        .parameter("ClaimCheck", "true")
        .edit(MACHINE, r#""Kind": "add""#, &format!(r#""Kind": "{kind}""#))
        .edit(MACHINE, r#""MaxAttempts": 4"#, r#""MaxAttempts": 1"#)
}

/// The output of the job of an execution that must have succeeded.
fn output_of(finished: Finished) -> Value {
    assert_eq!(finished.status, "SUCCEEDED", "{finished:?}");
    serde_json::from_str::<Value>(&finished.output.unwrap()).unwrap()["lambdaOutput"].clone()
}

/// The content of the object that a `ResultRef` names.
async fn content(stack: &Stack, result: &Value) -> Vec<u8> {
    let (bucket, key) = (result["Bucket"].as_str().unwrap(), result["Key"].as_str().unwrap());
    let object = stack.s3().get_object().bucket(bucket).key(key).send().await.unwrap();
    object.body.collect().await.unwrap().to_vec()
}

fn sha256(content: &[u8]) -> String {
    hexadecimal(ring::digest::digest(&ring::digest::SHA256, content))
}

fn hexadecimal(digest: ring::digest::Digest) -> String {
    digest.as_ref().iter().fold(String::new(), |digits, byte| digits + &format!("{byte:02x}"))
}

/// The 64 KiB that the handler `big` writes after `start` bytes.
fn block(start: u64) -> Vec<u8> {
    (0..8_192).flat_map(|number| (start + number).to_be_bytes()).collect()
}

/// Compares an object with what the handler `big` writes, part by part, and returns its SHA-256.
async fn assert_is_big(stack: &Stack, result: &Value) -> String {
    let (bucket, key) = (result["Bucket"].as_str().unwrap(), result["Key"].as_str().unwrap());
    let mut body = stack.s3().get_object().bucket(bucket).key(key).send().await.unwrap().body;
    let (mut digest, mut read) = (ring::digest::Context::new(&ring::digest::SHA256), 0_u64);
    let mut expected = Vec::new();

    while let Some(part) = body.next().await {
        let part = part.unwrap();
        digest.update(&part);
        let mut rest = &part[..];
        while !rest.is_empty() {
            if expected.is_empty() {
                expected = block(read);
            }
            let (now, later) = rest.split_at(rest.len().min(expected.len()));
            assert!(now == &expected[..now.len()], "the content differs after byte {read}");
            expected.drain(..now.len());
            (rest, read) = (later, read + now.len() as u64);
        }
    }
    assert_eq!(result["Bytes"], read);
    hexadecimal(digest.finish())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_arrives_whole_though_its_worker_is_killed_three_times() {
    let bytes: usize =
        std::env::var("POSTERN_TEST_CLAIM_BYTES").map_or(10_000_000, |bytes| bytes.parse().unwrap());
    // A megabyte a second, for a build without optimizations, and what a job takes anyway.
    let limit = TIMEOUT + Duration::from_secs(bytes as u64 / 1_000_000);
    let mut stack = Stack::with("claim-kills", with_time(deployment("big"), limit.as_secs() * 5)).await;
    let start = Instant::now();
    let (began, until) = (stack.folder.join("began"), stack.folder.join("until"));
    // The broker keeps messages for a worker that has connected before.
    let first = stack.test_worker().await.id();
    let input = json!({"bytes": bytes, "began": began, "until": until});
    let execution = stack.execute(&input.to_string()).await;

    kill_three_times(&mut stack, first, limit).await;
    let worker = stack.test_worker().await;
    let id = worker.id();

    let output = output_of(end_within(&stack, &execution, limit).await);
    let took = start.elapsed();
    let result = &output["ResultRef"];
    assert!(output.get("result").is_none());
    assert_eq!(
        (&result["Bytes"], &result["ContentType"]),
        (&json!(bytes), &json!("application/octet-stream"))
    );
    assert_eq!(result["Sha256"], assert_is_big(&stack, result).await);
    assert!(result["Key"].as_str().unwrap().starts_with("tenant1/"), "{result}");
    assert_eq!(stack.tokens(&execution, 1).await.len(), 1, "the job had one attempt");

    let end = Instant::now() + TIMEOUT;
    let spool = stack.files.config().with_file_name("state").join("spool");
    while std::fs::read_dir(&spool).unwrap().count() > 0 {
        assert!(Instant::now() < end, "a file is left in the spool");
        sleep(Duration::from_millis(20)).await;
    }
    println!(
        "a result of {bytes} bytes, SHA-256 {}: {took:?}, peak of the last worker's memory {} kB",
        result["Sha256"],
        peak_memory(id)
    );
}

/// Gives the jobs of the state machine more time.
fn with_time(deployment: Deployment, seconds: u64) -> Deployment {
    let longer = |indent: &str| {
        let limits = |timeout, heartbeat| {
            format!("\"TimeoutSeconds\": {timeout},\n{indent}\"HeartbeatSeconds\": {heartbeat}")
        };
        (limits(300, 60), limits(seconds, seconds - 1))
    };
    let (job, task) = (longer("            "), longer("      "));
    deployment.edit(MACHINE, &job.0, &job.1).edit(MACHINE, &task.0, &task.1)
}

/// Kills the worker `first` while the handler writes, the next one when the file is whole, and the next when the URL is
/// there.
async fn kill_three_times(stack: &mut Stack, first: u32, limit: Duration) {
    let (began, until) = (stack.folder.join("began"), stack.folder.join("until"));
    let end = Instant::now() + TIMEOUT;
    while !began.exists() {
        assert!(Instant::now() < end, "the handler does not begin");
        sleep(Duration::from_millis(5)).await;
    }
    stack.workers_mut().iter_mut().find(|worker| worker.id() == first).unwrap().kill();
    std::fs::write(&until, "").unwrap();

    for moment in [r#""message":"the result is kept as a file""#, r#""command":"UPLOAD"#] {
        let worker = stack.test_worker().await;
        let end = Instant::now() + limit;
        while !worker.logs().contains(moment) {
            assert!(Instant::now() < end, "{moment} is not in:\n{}", worker.logs());
            sleep(Duration::from_millis(5)).await;
        }
        worker.kill();
    }
}

/// The end of an execution. The emulator answers nothing while it takes a large object.
async fn end_within(stack: &Stack, execution: &str, limit: Duration) -> Finished {
    let end = Instant::now() + limit;
    loop {
        match stack.executions.end(execution, limit).await {
            Ok(finished) => return finished,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
    }
}

/// The most memory that a process has had so far, in kB.
fn peak_memory(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_and_a_result_that_are_too_large_for_a_message_arrive_whole() {
    let mut stack = Stack::with("claim-large", deployment("echo")).await;
    stack.test_worker().await;
    let input = format!(r#"{{"number":1.50,"text":"{}"}}"#, "x".repeat(200_000));
    let execution = stack.execute(&input).await;

    // The result path would make the output too large for Step Functions, if the result were in it.
    let output = output_of(stack.end(&execution).await);
    let stored = content(&stack, &output["ResultRef"]).await;
    assert!(
        serde_json::from_slice::<Value>(&stored).unwrap() == serde_json::from_str::<Value>(&input).unwrap()
    );
    assert_eq!(output["ResultRef"]["Bytes"], stored.len());
    stack.logged("the input is too large for a message", 1).await;
    assert_eq!(stack.dead_letters().await, 0);
}

/// A deployment whose jobs take the object of the execution's input.
fn from_object() -> Deployment {
    let from = r#""InputFrom.$": "$.from", "Kind": "size""#;
    Deployment::new("test")
        .parameter("ClaimCheck", "true")
        .parameter("ClaimCheckInputs", "arn:aws:s3:::exports/*")
        .edit(MACHINE, r#"          "Input.$": "$","#, "")
        .edit(MACHINE, r#""Kind": "add""#, from)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_in_s3_is_the_input_of_a_job_if_the_stack_may_read_it() {
    let mut stack = Stack::with("claim-from", from_object()).await;
    stack.test_worker().await;
    let s3 = stack.s3();
    for bucket in ["exports", "private"] {
        s3.create_bucket().bucket(bucket).send().await.unwrap();
        let body = ByteStream::from(vec![1; 300_000]);
        let put = s3.put_object().bucket(bucket).key("2026/a b.bin").body(body);
        put.checksum_algorithm(ChecksumAlgorithm::Sha256).send().await.unwrap();
    }

    let from = |bucket: &str| json!({"from": {"Bucket": bucket, "Key": "2026/a b.bin"}}).to_string();
    let execution = stack.execute(&from("exports")).await;
    let output = output_of(stack.end(&execution).await);
    assert_eq!(output["result"], json!({"bytes": 300_000, "sum": 300_000}));

    let execution = stack.execute(&from("private")).await;
    let finished = stack.end(&execution).await;
    assert_eq!(finished.error.as_deref(), Some("Dispatcher.InvalidInput"), "{finished:?}");
    let claims = stack.outputs.get("ClaimCheckBucketName");
    let foreign = json!({"from": {"Bucket": claims, "Key": "tenant2/abc"}}).to_string();
    let execution = stack.execute(&foreign).await;
    let finished = stack.end(&execution).await;
    assert!(finished.cause.unwrap().contains("does not belong to the job's tenant, tenant1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_permission_to_write_results_the_upload_fails_by_its_name() {
    let deployment = deployment("big").edit(
        TEMPLATE,
        "Action: [s3:GetObject, s3:PutObject]\n            Resource: !Sub\n",
        "Action: s3:GetObject\n            Resource: !Sub\n",
    );
    let mut stack = Stack::with("claim-no-put", deployment).await;
    stack.test_worker().await;
    let execution = stack.execute(r#"{"bytes": 10}"#).await;
    let finished = stack.end(&execution).await;
    assert_eq!(finished.error.as_deref(), Some("Worker.UploadFailed"), "{finished:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_permission_to_store_inputs_a_large_one_is_refused() {
    let deployment = deployment("echo").edit(
        TEMPLATE,
        "${ClaimCheckBucket.Arn}/${Tenants}/inputs/*",
        "${ClaimCheckBucket.Arn}/${Tenants}/elsewhere/*",
    );
    let mut stack = Stack::with("claim-no-input", deployment).await;
    stack.test_worker().await;
    let execution = stack.execute(&json!("x".repeat(200_000)).to_string()).await;
    let finished = stack.end(&execution).await;
    assert_eq!(finished.error.as_deref(), Some("Dispatcher.PublishRefused"), "{finished:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_roles_that_the_buckets_policy_names_write_to_it() {
    // A role that the bucket's policy does not name cannot write, whatever its own policy says.
    let deployment = deployment("big").edit(
        TEMPLATE,
        "[!GetAtt DispatcherRole.Arn, !GetAtt TaskTokenDoneRole.Arn]",
        "[!GetAtt DispatcherRole.Arn]",
    );
    let mut stack = Stack::with("claim-bucket", deployment).await;
    stack.test_worker().await;
    let execution = stack.execute(r#"{"bytes": 10}"#).await;
    let finished = stack.end(&execution).await;
    assert_eq!(finished.error.as_deref(), Some("Worker.UploadFailed"), "{finished:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_with_an_older_policy_fails_a_large_result_at_once_and_says_what_to_do() {
    let own = "/to/worker/${!iot:Connection.Thing.ThingName}";
    let grant = format!("topicfilter/${{!iot:Connection.Thing.Attributes[tenant]}}{own}");
    let deployment = deployment("big").edit(TEMPLATE, &grant, &grant.replace("/to/worker/", "/to/nobody/"));
    let mut stack = Stack::with("claim-old-policy", deployment).await;
    stack.test_worker().await;
    let execution = stack.execute(r#"{"bytes": 10}"#).await;
    let finished = stack.end(&execution).await;
    assert_eq!(finished.error.as_deref(), Some("Worker.UploadFailed"), "{finished:?}");
    let cause = finished.cause.unwrap();
    assert!(cause.contains("subscription to tenant1/to/worker/") && cause.contains("policy"), "{cause}");
}
