//! Hints: every change of a job's item reaches those who listen at the GRIP proxy, whoever has made it.

use std::net::SocketAddr;

use futures_util::StreamExt as _;
use jiff::Timestamp;
use postern_jobs::{Jobs as _, NewJob};
use postern_pushpin::Ports;
use postern_types::{JobId, Tenant};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::console::Console;
use super::proxy::{connect, proxy};
use crate::stack::TIMEOUT;

/// Somebody who listens to a channel.
struct Listener(WebSocketStream<TcpStream>);

impl Listener {
    /// Fetches a ticket and opens the WebSocket through the proxy, as the page does.
    async fn open(console: &Console, token: &str, clients: SocketAddr, channel: &str) -> Self {
        let body = json!({"channel": channel});
        let ticket = console.call("POST", "/live-ticket", token, Some(&body), &[]).await.json();
        let protocols = format!("postern-live.1, ticket.{}", ticket["ticket"].as_str().unwrap());

        let mut request = format!("ws://{clients}/live?channel={channel}").into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", protocols.parse().unwrap());
        let stream = TcpStream::connect(clients).await.unwrap();
        let (socket, _) = timeout(TIMEOUT, client_async(request, stream)).await.unwrap().unwrap();
        Self(socket)
    }

    /// Waits for a hint at a job that has this state. Hints at the progress of a job repeat its state.
    async fn until(&mut self, state: &str, is_it: impl Fn(&str) -> bool) -> String {
        loop {
            let message = timeout(TIMEOUT, self.0.next()).await;
            let message = message.unwrap_or_else(|_| panic!("no hint with the state {state} came"));
            let Message::Text(text) = message.expect("the connection ended").unwrap() else { continue };

            let hint: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(hint.as_object().unwrap().len(), 2, "a hint has nothing else: {hint}");
            let job_id = hint["jobId"].as_str().unwrap();
            if hint["state"] == state && is_it(job_id) {
                return job_id.to_owned();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_of_a_job_is_announced_whoever_has_made_it() {
    let ports = Ports::free().unwrap();
    let mut console = Console::start("api-hints").await;
    let pushpin = proxy(&console, ports).await;
    connect(&mut console, ports, pushpin.clients()).await;
    let (operator, approver) = (console.token("operator1"), console.token("approver1"));
    let mut tenant = Listener::open(&console, &operator, pushpin.clients(), "jobs-tenant1").await;
    let mut stranger =
        Listener::open(&console, &console.token("operator2"), pushpin.clients(), "jobs-tenant2").await;

    // The dispatcher, the worker's acceptance, its progress and its answer.
    let done = console.stack.folder.join("done");
    let body = json!({"machine": "on-prem-job", "input": {"until": done}});
    assert_eq!(console.post("/jobs", &operator, &body).await, 202);
    let first = tenant.until("DISPATCHED", |_| true).await;
    let mut job = Listener::open(&console, &operator, pushpin.clients(), &format!("job-{first}")).await;
    console.stack.test_worker().await;
    job.until("ACCEPTED", |id| id == first).await;
    job.until("ACCEPTED", |id| id == first).await;
    std::fs::write(&done, "").unwrap();
    job.until("SUCCEEDED", |id| id == first).await;
    tenant.until("SUCCEEDED", |id| id == first).await;

    // The canceller, after an execution was stopped.
    let body = json!({"machine": "on-prem-job", "input": {"until": console.stack.folder.join("never")}});
    assert_eq!(console.post("/jobs", &operator, &body).await, 202);
    let second = tenant.until("DISPATCHED", |_| true).await;
    assert_eq!(console.post(&format!("/jobs/{second}/stop"), &operator, &json!({})).await, 202);
    tenant.until("CANCELLED", |id| id == second).await;

    // The approval's question and the decision in the console.
    let body = json!({"machine": "approve", "input": {"question": "Copy it?", "job": {"a": 15, "b": 42}}});
    assert_eq!(console.post("/jobs", &operator, &body).await, 202);
    let third = tenant.until("DISPATCHED", |_| true).await;
    let approve = format!("/jobs/{third}/approve");
    assert_eq!(console.post(&approve, &approver, &json!({})).await, 202);
    tenant.until("SUCCEEDED", |id| id == third).await;

    // Another tenant has heard of none of it: its first hint is at its own job.
    let id = "0123456789abcdef0123456789abcdef";
    let foreign = NewJob::new(Tenant::parse("tenant2").unwrap(), JobId::parse(id).unwrap(), Timestamp::now());
    console.stack.jobs().dispatched(&foreign).await.unwrap();
    assert_eq!(stranger.until("DISPATCHED", |_| true).await, id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_is_down_holds_up_no_job_and_no_later_hint() {
    let ports = Ports::free().unwrap();
    let mut console = Console::start("api-hints-down").await;
    let pushpin = proxy(&console, ports).await;
    connect(&mut console, ports, pushpin.clients()).await;
    drop(pushpin);
    console.stack.test_worker().await;

    let done = console.stack.folder.join("done");
    std::fs::write(&done, "").unwrap();
    let execution = console.stack.execute(&json!({"until": done}).to_string()).await;
    assert_eq!(console.stack.end(&execution).await.status, "SUCCEEDED");
    console.stack.logged("the hints could not be published", 1).await;

    let pushpin = proxy(&console, ports).await;
    let operator = console.token("operator1");
    let mut tenant = Listener::open(&console, &operator, pushpin.clients(), "jobs-tenant1").await;
    let execution = console.stack.execute(&json!({"until": done}).to_string()).await;
    tenant.until("SUCCEEDED", |_| true).await;
    assert_eq!(console.stack.end(&execution).await.status, "SUCCEEDED");
}
