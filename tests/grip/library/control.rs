//! Control messages: what a function makes the proxy do on its own.

use std::sync::{Arc, Mutex};

use grip::{Automatic, Control, Item, Mode, WsMessage};
use tokio_tungstenite::tungstenite::{Bytes, Message};

use crate::client::within_timeout;
use crate::library::function::{Stack, answering};

fn news(text: &str) -> Item {
    Item::new("news").websocket(WsMessage::text(text))
}

#[tokio::test]
async fn a_detached_client_still_receives_publications() {
    let texts = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&texts);
    let stack = Stack::start(answering(move |ws, text| {
        seen.lock().unwrap().push(text.to_owned());
        if text == "open" {
            ws.subscribe("news").unwrap();
        } else {
            ws.control(&Control::Detach).unwrap();
            ws.send("detached");
        }
    }))
    .await;
    let mut client = stack.connect().await;
    assert_eq!(stack.publish_until_received(&mut client, &[news("before")]).await, Message::text("before"));
    client.send("detach").await;
    client.skip_to(&Message::text("detached")).await;

    // The proxy has detached the connection before it delivers a later publication.
    while stack.publish_until_received(&mut client, &[news("after")]).await != Message::text("after") {}
    client.send("hello?").await;
    within_timeout(client.0.close(None)).await.unwrap();
    while !matches!(client.next().await, Message::Close(_)) {}
    assert_eq!(*texts.lock().unwrap(), ["open", "detach"]);
}

#[tokio::test]
async fn filters_read_the_values_attached_to_a_connection() {
    let stack = Stack::start(answering(|ws, _| {
        ws.control(&Control::SetMeta { name: "user", value: "Zoë" }).unwrap();
        ws.control(&Control::Subscribe { channel: "news", filters: &["skip-self"] }).unwrap();
        ws.control(&Control::Subscribe { channel: "names", filters: &["var-subst"] }).unwrap();
    }))
    .await;
    let mut client = stack.connect().await;
    let items = [news("hers").meta("sender", "Zoë"), news("his").meta("sender", "Al")];

    assert_eq!(stack.publish_until_received(&mut client, &items).await, Message::text("his"));
    let message = WsMessage::text("for %(user)s").content_filters(&["var-subst"]);
    let mut heard = stack.publish_until_received(&mut client, &[Item::new("names").websocket(message)]).await;
    while heard == Message::text("his") {
        heard = client.next().await;
    }

    assert_eq!(heard, Message::text("for Zoë"));
}

#[tokio::test]
async fn a_delayed_message_waits_for_its_time_the_next_one_or_a_flush() {
    let stack = Stack::start(answering(|ws, text| {
        let delayed = |text, timeout| Control::SendDelayed { message: Automatic::Text(text), timeout };
        match text {
            "later" => {
                ws.control(&delayed("first", 600)).unwrap();
                ws.control(&delayed("second", 1)).unwrap();
            }
            "now" => {
                ws.control(&delayed("flushed", 600)).unwrap();
                ws.control(&Control::FlushDelayed).unwrap();
            }
            _ => {}
        }
    }))
    .await;
    let mut client = stack.connect().await;
    client.send("later").await;

    // The second message pushes out the first, and is sent itself after a second.
    for expected in ["first", "second"] {
        assert_eq!(client.next().await, Message::text(expected));
    }
    client.send("now").await;

    assert_eq!(client.next().await, Message::text("flushed"));
}

#[tokio::test]
async fn a_client_is_kept_alive_with_every_kind_of_message() {
    let stack = Stack::start(answering(|ws, text| {
        let (message, mode) = match text {
            "text" => (Automatic::Text("beat"), Mode::Idle),
            "binary" => (Automatic::Binary(b"\0beat"), Mode::Interval),
            "ping" => (Automatic::Ping("beat"), Mode::Interval),
            "pong" => (Automatic::Pong("beat"), Mode::Idle),
            _ => return,
        };
        ws.control(&Control::KeepAlive { message: Some(message), timeout: 1, mode }).unwrap();
    }))
    .await;
    let beat = Bytes::from_static(b"beat");
    let kinds = [
        ("text", Message::text("beat")),
        ("binary", Message::binary(b"\0beat".to_vec())),
        ("ping", Message::Ping(beat.clone())),
        ("pong", Message::Pong(beat)),
    ];
    let mut clients = Vec::new();

    for (kind, expected) in kinds {
        let mut client = stack.connect().await;
        client.send(kind).await;
        clients.push((client, expected));
    }
    for _ in 0..2 {
        for (client, expected) in &mut clients {
            assert_eq!(client.next().await, *expected);
        }
    }
}

#[tokio::test]
async fn an_empty_keep_alive_ends_it() {
    let stack = Stack::start(answering(|ws, text| match text {
        "on" => {
            let message = Some(Automatic::Text("beat"));
            ws.control(&Control::KeepAlive { message, timeout: 1, mode: Mode::Interval }).unwrap();
        }
        "off" => {
            ws.control(&Control::KeepAlive { message: None, timeout: 1, mode: Mode::Interval }).unwrap();
            let message = Automatic::Text("end");
            ws.control(&Control::SendDelayed { message, timeout: 4 }).unwrap();
        }
        _ => {}
    }))
    .await;
    let mut client = stack.connect().await;
    client.send("on").await;

    assert_eq!(client.next().await, Message::text("beat"));
    client.send("off").await;
    // The delayed message measures 4 seconds by the proxy's own clock. One beat may have been under way.
    let mut beats = 0;
    while client.next().await == Message::text("beat") {
        beats += 1;
    }

    assert!(beats < 3, "{beats} keep-alives arrived after the end");
}
