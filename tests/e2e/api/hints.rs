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
use super::proxy::{live, proxy};
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

    /// Waits for a hint at a job and a state, and returns the job's id. Progress repeats the state that a job has.
    async fn until(&mut self, what: &str, is_it: impl Fn(&str, &str) -> bool) -> String {
        loop {
            let message = timeout(TIMEOUT, self.0.next()).await;
            let message = message.unwrap_or_else(|_| panic!("no hint came: {what}"));
            let Message::Text(text) = message.expect("the connection ended").unwrap() else { continue };

            let hint: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(hint.as_object().unwrap().len(), 2, "a hint has nothing else: {hint}");
            let (job_id, state) = (hint["jobId"].as_str().unwrap(), hint["state"].as_str().unwrap());
            if is_it(job_id, state) {
                return job_id.to_owned();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_of_a_job_is_announced_whoever_has_made_it() {
    let ports = Ports::free().unwrap();
    let (mut console, pushpin) = live("api-hints", ports).await;
    let (operator, approver) = (console.token("operator1"), console.token("approver1"));
    let mut tenant = Listener::open(&console, &operator, pushpin.clients(), "jobs-tenant1").await;
    let mut stranger =
        Listener::open(&console, &console.token("operator2"), pushpin.clients(), "jobs-tenant2").await;

    // The dispatcher, the worker's acceptance, its progress and its answer. The worker is away at first, so that the hint at
    // the dispatch is not one with that at the acceptance.
    console.stack.test_worker().await.stop().unwrap();
    let done = console.stack.folder.join("done");
    console.begin(&operator, "on-prem-job", &json!({"until": done})).await;
    let first = tenant.until("dispatched", |_, state| state == "DISPATCHED").await;
    let mut job = Listener::open(&console, &operator, pushpin.clients(), &format!("job-{first}")).await;
    console.stack.test_worker().await;
    job.until("accepted", |_, state| state == "ACCEPTED").await;
    job.until("progress", |_, state| state == "ACCEPTED").await;
    std::fs::write(&done, "").unwrap();
    job.until("answered", |id, state| id == first && state == "SUCCEEDED").await;
    tenant.until("answered, for the tenant", |id, state| id == first && state == "SUCCEEDED").await;

    // The canceller, after an execution was stopped.
    let never = console.stack.folder.join("never");
    console.begin(&operator, "on-prem-job", &json!({"until": never})).await;
    let second = tenant.until("a second job", |id, _| id != first).await;
    assert_eq!(console.post(&format!("/jobs/{second}/stop"), &operator, &json!({})).await, 202);
    tenant.until("cancelled", |id, state| id == second && state == "CANCELLED").await;

    // The approval's question, and the decision in the console.
    let question = json!({"question": "Copy it?", "job": {"a": 15, "b": 42}});
    console.begin(&operator, "approve", &question).await;
    let third = tenant.until("a question", |id, _| id != first && id != second).await;
    assert_eq!(console.post(&format!("/jobs/{third}/approve"), &approver, &json!({})).await, 202);
    tenant.until("approved", |id, state| id == third && state == "SUCCEEDED").await;

    // Another tenant has heard of none of it: its first hint is at its own job.
    let id = "0123456789abcdef0123456789abcdef";
    let foreign = NewJob::new(Tenant::parse("tenant2").unwrap(), JobId::parse(id).unwrap(), Timestamp::now());
    console.stack.jobs().dispatched(&foreign).await.unwrap();
    assert_eq!(stranger.until("dispatched", |_, _| true).await, id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_is_down_holds_up_no_job_and_no_later_hint() {
    let ports = Ports::free().unwrap();
    let (mut console, pushpin) = live("api-hints-down", ports).await;
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
    tenant.until("answered", |_, state| state == "SUCCEEDED").await;
    assert_eq!(console.stack.end(&execution).await.status, "SUCCEEDED");
}
