//! `grip-echo` at its function URL, as the template deploys it. The tests in `tests/grip` run it behind Pushpin.

use std::time::Duration;

use postern_local::Deployment;
use serde_json::json;
use tokio::time::{Instant, sleep};
use ureq::Agent;
use ureq::http::Response;

use crate::stack::{Stack, TIMEOUT};

/// A `Grip-Sig` header that is signed with the secret `changeme` and expires in 2100.
const SIGNATURE: &str = include_str!("../../functions/grip-echo/testdata/changeme.jwt");

/// Starts a stack with GRIP whose function verifies signatures with `key`. Returns the ARN of the function's secret too.
async fn with_grip(name: &str, key: &str) -> (Stack, String) {
    let mut stack = Stack::start(name).await;
    let secret = stack.emulator.create_secret("grip", &secret(key)).await.unwrap();
    let deployment = Deployment::new("test").parameter("Grip", "true").parameter("GripSecretArn", &secret);
    stack.outputs = stack.emulator.deploy(&deployment).await.unwrap();
    (stack, secret)
}

fn secret(key: &str) -> String {
    json!({"GRIP_URL": "http://127.0.0.1:5561/", "GRIP_VERIFY_KEY": key}).to_string()
}

/// Posts WebSocket events to the function URL. Returns the status, the content type and the body of the response.
fn post(stack: &Stack, signature: Option<&str>, events: &[u8]) -> (u16, String, Vec<u8>) {
    let agent: Agent = Agent::config_builder().http_status_as_error(false).build().into();
    let mut request = agent
        .post(stack.outputs.get("GripEchoUrl"))
        .header("content-type", "application/websocket-events")
        .header("connection-id", "c1");
    if let Some(signature) = signature {
        request = request.header("grip-sig", signature.trim());
    }

    let mut response: Response<_> = request.send(events).unwrap();
    let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
    (response.status().as_u16(), kind, response.body_mut().read_to_vec().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_function_url_accepts_binary_bodies_with_a_signature_and_refuses_requests_without_one() {
    let (stack, _) = with_grip("grip", "changeme").await;

    let binary = b"BINARY 4\r\n\xff\x00\r\n\r\n";
    let (status, kind, body) = post(&stack, Some(SIGNATURE), binary);
    assert_eq!((status, &*kind), (200, "application/websocket-events"));
    assert_eq!(body, b"BINARY 6\r\nm:\xff\x00\r\n\r\n");

    assert_eq!(post(&stack, None, binary).0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_every_request_is_refused() {
    let (stack, _) = with_grip("grip-no-key", "").await;
    assert_eq!(post(&stack, Some(SIGNATURE), b"OPEN\r\n").0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_that_loses_the_permission_to_read_its_secret_cannot_start_the_function() {
    let stack = Stack::start("grip-no-secret").await;
    let secret = stack.emulator.create_secret("grip", &secret("changeme")).await.unwrap();
    let read = |action: &str| {
        format!("Action: secretsmanager:{action}\n                Resource: !Ref GripSecretArn")
    };
    let deployment = Deployment::new("test")
        .parameter("Grip", "true")
        .parameter("GripSecretArn", &secret)
        .edit("template.yml", &read("GetSecretValue"), &read("DescribeSecret"));
    let outputs = stack.emulator.deploy(&deployment).await.unwrap();

    let event = stack.project.file("events/grip-echo/function-url-poll.json");
    let answer = stack.emulator.invoke(outputs.get("GripEchoFunctionName"), &event).await;
    assert!(answer.unwrap().contains("AccessDeniedException"), "the function's start names the refusal");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_function_accepts_a_rotated_key() {
    let (stack, secret_arn) = with_grip("grip-rotation", "before").await;
    assert_eq!(post(&stack, Some(SIGNATURE), b"OPEN\r\n").0, 403);
    stack.emulator.put_secret(&secret_arn, &secret("changeme")).await.unwrap();

    // The function reads the secret again once half a minute has passed since it last did.
    let end = Instant::now() + TIMEOUT;
    while post(&stack, Some(SIGNATURE), b"OPEN\r\n").0 != 200 {
        assert!(Instant::now() < end, "the rotated key is not accepted");
        sleep(Duration::from_millis(500)).await;
    }
}
