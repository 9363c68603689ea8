//! What versions of Pushpin after 1.36 add: `refresh` (1.38), links to `gone`, and messages that are kept back (1.41).
//!
//! A test that needs a newer Pushpin says NOT RUN on an older one. `POSTERN_PUSHPIN` names another program than the
//! `pushpin` in the PATH.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::SinkExt as _;
use grip::{Hold, Item, WebSocket, WsMessage};
use http::{Method, Request, Response};
use postern_pushpin::{TIMEOUT, Version, post};
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::client::{Client, within_timeout};
use crate::library::function::Stack;

/// Whether the Pushpin of the tests is at least this version. If not, prints that the test does not run.
fn is_at_least(needed: Version) -> bool {
    let found = Version::installed().unwrap();
    if found < needed {
        println!("NOT RUN: this needs Pushpin {needed} or later, and the tests run with {found}");
    }
    found >= needed
}

/// Waits until a condition holds.
async fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !condition() {
        assert!(Instant::now() < deadline, "the timeout passed");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_refresh_makes_the_proxy_ask_the_function_or_is_refused_by_an_old_one() {
    let stack = Stack::start(|request| {
        let mut ws = WebSocket::read(request).unwrap();
        if ws.is_opening() {
            ws.accept();
            ws.subscribe("news").unwrap();
        } else if request.body().is_empty() {
            ws.send("refreshed");
        }
        ws.to_response()
    })
    .await;
    let mut client = stack.connect().await;
    let refresh = Item::new("news").websocket(WsMessage::refresh());

    if Version::installed().unwrap() < Version::new(1, 38) {
        let body = serde_json::json!({ "items": [refresh.json("")] }).to_string();
        let answer = within_timeout(post(stack.pushpin.control(), "/publish/", None, body.as_bytes())).await;
        assert_eq!(answer.unwrap().status, 400);
        return;
    }
    let received = stack.publish_until_received(&mut client, &[refresh]).await;
    assert_eq!(received, Message::text("refreshed"));
}

#[tokio::test]
async fn the_gone_link_is_requested_when_the_client_of_a_hold_has_left() {
    if !is_at_least(Version::new(1, 41)) {
        return;
    }
    let requests = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&requests);
    let stack = Stack::start(move |request: &Request<Vec<u8>>| {
        seen.lock().unwrap().push((request.method().clone(), request.uri().to_string()));
        let (first, held) = (Response::new(b"first\n".to_vec()), Hold::response(600).channel("lines"));
        match request.uri().path() {
            "/stream" => Hold::stream().channel("lines").gone("/gone?stream=7").apply(first).unwrap(),
            "/poll" => held.gone("/gone?poll=8").apply(first).unwrap(),
            "/json" => held.gone("/gone?json=9").instruct(&first).unwrap(),
            _ => Response::new(Vec::new()),
        }
    })
    .await;

    let mut stream = stack.get("/stream").await;
    within_timeout(stream.until("first\n")).await.unwrap();
    drop(stream);
    for path in ["/poll", "/json"] {
        let poll = tokio::spawn(postern_pushpin::get(stack.clients(), path));
        // The function has answered. The proxy may still be taking over the hold: it requests the link in both cases.
        until(|| requests.lock().unwrap().iter().any(|(_, target)| target == path)).await;
        sleep(Duration::from_millis(200)).await;
        poll.abort();
    }

    for target in ["/gone?stream=7", "/gone?poll=8", "/gone?json=9"] {
        let gone = (Method::POST, target.to_owned());
        until(|| requests.lock().unwrap().contains(&gone)).await;
    }
}

/// The texts that a function has read, and how many bytes it has seen more than once.
#[derive(Default)]
struct Seen {
    texts: Vec<String>,
    replayed: usize,
}

/// A function that echoes ten messages of each request, and keeps back the rest if the proxy can.
async fn echoing_ten(seen: Arc<Mutex<Seen>>) -> Stack {
    Stack::start(move |request: &Request<Vec<u8>>| {
        let mut ws = WebSocket::read(request).unwrap();
        if ws.is_opening() {
            ws.accept();
        }

        let mut seen = seen.lock().unwrap();
        seen.replayed += ws.replayed();
        let mut count = 0;
        while count < 10 || !ws.keep_back() {
            let Some(grip::Message::Text(text)) = ws.recv() else { break };
            seen.texts.push(text.to_owned());
            ws.send(text);
            count += 1;
        }
        ws.to_response()
    })
    .await
}

async fn send_numbers(client: &mut Client, count: usize) -> Vec<String> {
    let numbers: Vec<String> = (0..count).map(|number| format!("number {number}")).collect();
    for number in &numbers {
        client.0.feed(Message::text(number)).await.unwrap();
    }
    within_timeout(client.0.flush()).await.unwrap();
    numbers
}

#[tokio::test]
async fn messages_that_are_kept_back_come_again_in_order_and_none_is_lost() {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let stack = echoing_ten(Arc::clone(&seen)).await;
    let mut client = stack.connect().await;
    let numbers = send_numbers(&mut client, 300).await;

    let mut echoed = Vec::new();
    while echoed.len() < numbers.len() {
        match timeout(Duration::from_millis(100), client.next()).await {
            Ok(message) => echoed.push(message.into_text().unwrap().to_string()),
            // What is kept back comes again with the client's next message.
            Err(_) => client.send("more").await,
        }
        echoed.retain(|text| text != "more");
    }

    assert_eq!(echoed, numbers);
    let has_replayed = seen.lock().unwrap().replayed > 0;
    assert_eq!(has_replayed, Version::installed().unwrap() >= Version::new(1, 41));
}

#[tokio::test]
async fn a_client_that_closes_gets_its_last_messages_read() {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let stack = echoing_ten(Arc::clone(&seen)).await;
    let mut client = stack.connect().await;
    let numbers = send_numbers(&mut client, 300).await;
    within_timeout(client.0.close(None)).await.unwrap();

    while !matches!(client.next().await, Message::Close(_)) {}
    assert_eq!(seen.lock().unwrap().texts, numbers);
}
