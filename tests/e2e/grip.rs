//! `grip-echo` as the template deploys it, at its function URL; behind a proxy it is tested with Pushpin.

use postern_local::Deployment;
use ureq::Agent;
use ureq::http::Response;

use crate::stack::Stack;

/// Of the secret `changeme`, and good until 2100.
const SIGNATURE: &str = include_str!("../../functions/grip-echo/testdata/changeme.jwt");

async fn with_grip(name: &str, key: &str) -> Stack {
    let deployment = Deployment::new("test")
        .parameter("GripUrl", "http://127.0.0.1:5561/")
        .parameter("GripVerifyKey", key);
    Stack::with(name, deployment).await
}

/// What the URL answers to a WebSocket's events: status, content type, body.
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
async fn its_url_serves_the_proxy_with_binary_bodies_and_nobody_else() {
    let stack = with_grip("grip", "changeme").await;
    let binary = b"BINARY 4\r\n\xff\x00\r\n\r\n";
    let (status, kind, body) = post(&stack, Some(SIGNATURE), binary);
    assert_eq!((status, &*kind), (200, "application/websocket-events"));
    assert_eq!(body, b"BINARY 6\r\nm:\xff\x00\r\n\r\n");
    assert_eq!(post(&stack, None, binary).0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_everybody_is_refused() {
    let stack = with_grip("grip-no-key", "").await;
    assert_eq!(post(&stack, Some(SIGNATURE), b"OPEN\r\n").0, 403);
}
