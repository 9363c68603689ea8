//! Publications, as WebSockets and held responses receive them.

use std::sync::atomic::{AtomicUsize, Ordering};

use grip::{Channel, Hold, HttpStream, Item, WsMessage};
use http::{Response, StatusCode};
use tokio_tungstenite::tungstenite::{Bytes, Message};

use crate::client::within_timeout;
use crate::library::function::{Stack, answering};

#[tokio::test]
async fn a_websocket_receives_every_kind_of_message() {
    let stack = Stack::start(answering(|ws, _| ws.subscribe("news").unwrap())).await;
    let mut client = stack.connect().await;
    let item = |message: WsMessage| Item::new("news").websocket(message);
    let first = Message::binary(b"\xff\0".to_vec());
    assert_eq!(stack.publish_until_received(&mut client, &[item(WsMessage::binary(b"\xff\0"))]).await, first);
    stack
        .publish(&[
            item(WsMessage::text("Zoë")).id("2").prev_id("1").no_seq(),
            item(WsMessage::ping(b"p")),
            item(WsMessage::pong(b"q")),
            item(WsMessage::close(4003, "over").unwrap()),
        ])
        .await;

    // Copies of the first item may still arrive: it was published until one was received.
    let mut next = first.clone();
    while next == first {
        next = client.next().await;
    }
    assert_eq!(next, Message::text("Zoë"));
    assert_eq!(client.next().await, Message::Ping(Bytes::from_static(b"p")));
    assert_eq!(client.next().await, Message::Pong(Bytes::from_static(b"q")));
    assert_eq!(client.closed().await, (4003, "over".to_owned()));
}

#[tokio::test]
async fn a_stream_receives_text_and_bytes_and_is_closed() {
    let stack =
        Stack::start(|_| Hold::stream().channel("lines").apply(Response::new(b"first\n".to_vec())).unwrap())
            .await;
    let mut answer = stack.get("/").await;
    let text = [Item::new("lines").stream(HttpStream::text("Zoë\n"))];
    let heard = stack.publish_until(&text, answer.until("Zoë\n")).await.unwrap();

    assert!(heard.starts_with("first\nZoë\n"), "{heard}");
    let last = HttpStream::binary(b"last\n");
    stack.publish(&[Item::new("lines").stream(last), Item::new("lines").stream(HttpStream::close())]).await;

    assert!(within_timeout(answer.text()).await.unwrap().ends_with("Zoë\nlast\n"));
}

#[tokio::test]
async fn a_poll_receives_a_whole_response() {
    let stack = Stack::start(|_| {
        let nothing = Response::new(b"nothing".to_vec());
        Hold::response(600).channel("a, b; \"c\"").instruct(&nothing).unwrap()
    })
    .await;
    let news = Response::builder().status(201).header("x-news", "1").body(b"news\0".to_vec()).unwrap();
    let items = [Item::new("a, b; \"c\"").response(&news).unwrap()];
    let polled = stack.publish_until(&items, stack.get("/")).await;

    assert_eq!((polled.status, polled.headers["x-news"].to_str().unwrap()), (StatusCode::CREATED, "1"));
    assert_eq!(within_timeout(polled.text()).await.unwrap(), "news\0");
}

#[tokio::test]
async fn a_hint_repeats_the_request_of_a_poll() {
    let requests = AtomicUsize::new(0);
    let stack = Stack::start(move |_| match requests.fetch_add(1, Ordering::SeqCst) {
        0 => Hold::response(600).channel("news").apply(Response::new(b"nothing".to_vec())).unwrap(),
        _ => Response::new(b"news".to_vec()),
    })
    .await;
    let hint = [Item::new("news").response_hint()];
    let polled = stack.publish_until(&hint, stack.get("/")).await;

    assert_eq!(within_timeout(polled.text()).await.unwrap(), "news");
}

#[tokio::test]
async fn a_hint_makes_a_stream_continue_at_its_link() {
    let stack = Stack::start(|request| match request.uri().path() {
        "/" => {
            let hold = Hold::stream().channel("lines").next("/more", Some(600));
            hold.apply(Response::new(b"first\n".to_vec())).unwrap()
        }
        _ => Response::new(b"more\n".to_vec()),
    })
    .await;
    let answer = stack.get("/").await;
    let hint = [Item::new("lines").stream(HttpStream::hint())];
    let text = stack.publish_until(&hint, answer.text()).await.unwrap();

    assert_eq!(text, "first\nmore\n");
}

#[tokio::test]
async fn a_poll_that_missed_an_item_is_repeated() {
    let requests = AtomicUsize::new(0);
    let stack = Stack::start(move |request| {
        let channel = Channel::new("log").prev_id("1");
        match requests.fetch_add(1, Ordering::SeqCst) {
            0 => Hold::response(600).channel(channel).apply(Response::new(b"nothing".to_vec())).unwrap(),
            _ => Response::new(request.headers()["grip-last"].as_bytes().to_vec()),
        }
    })
    .await;
    let news = Response::new(b"item".to_vec());
    stack.publish(&[Item::new("log").id("2").prev_id("1").no_seq().response(&news).unwrap()]).await;
    let polled = stack.get("/").await;

    assert_eq!(within_timeout(polled.text()).await.unwrap(), "log; last-id=1");
}
