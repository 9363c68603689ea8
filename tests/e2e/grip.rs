//! `grip-echo` at its function URL, as the template deploys it. The tests in `tests/grip` run it behind Pushpin.

use postern_local::Deployment;
use ureq::Agent;
use ureq::http::Response;

use crate::stack::Stack;

/// A `Grip-Sig` header that is signed with the secret `changeme` and expires in 2100.
const SIGNATURE: &str = include_str!("../../functions/grip-echo/testdata/changeme.jwt");

/// Starts a stack with GRIP whose function verifies signatures with `key`.
async fn with_grip(name: &str, key: &str) -> Stack {
    let deployment = Deployment::new("test")
        .parameter("GripUrl", "http://127.0.0.1:5561/")
        .parameter("GripVerifyKey", key);
    Stack::with(name, deployment).await
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
    let stack = with_grip("grip", "changeme").await;

    let binary = b"BINARY 4\r\n\xff\x00\r\n\r\n";
    let (status, kind, body) = post(&stack, Some(SIGNATURE), binary);
    assert_eq!((status, &*kind), (200, "application/websocket-events"));
    assert_eq!(body, b"BINARY 6\r\nm:\xff\x00\r\n\r\n");

    assert_eq!(post(&stack, None, binary).0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_every_request_is_refused() {
    let stack = with_grip("grip-no-key", "").await;
    assert_eq!(post(&stack, Some(SIGNATURE), b"OPEN\r\n").0, 403);
}
