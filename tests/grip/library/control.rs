//! What a function has the proxy do by itself.

use std::sync::{Arc, Mutex};

use grip::{Automatic, Control, Item, Mode, WsMessage};
use tokio_tungstenite::tungstenite::{Bytes, Message};

use crate::library::stack::{Stack, answering, soon};

fn news(text: &str) -> Item {
    Item::new("news").websocket(WsMessage::text(text))
}

#[tokio::test]
async fn a_detached_client_lives_on_publications() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let stack = Stack::start(answering(move |ws, said| {
        seen.lock().unwrap().push(said.to_owned());
        if said == "open" {
            ws.subscribe("news").unwrap();
        } else {
            ws.control(&Control::Detach).unwrap();
            ws.send("detached");
        }
    }))
    .await;
    let mut client = stack.connect().await;
    assert_eq!(stack.heard(&mut client, &[news("before")]).await, Message::text("before"));
    client.say("detach").await;
    while client.next().await != Message::text("detached") {}
    // The proxy obeys before it publishes what came later.
    while stack.heard(&mut client, &[news("after")]).await != Message::text("after") {}
    client.say("hello?").await;
    soon(client.0.close(None)).await.unwrap();
    while !matches!(client.next().await, Message::Close(_)) {}
    assert_eq!(*asked.lock().unwrap(), ["open", "detach"]);
}

#[tokio::test]
async fn filters_look_at_what_was_noted() {
    let stack = Stack::start(answering(|ws, _| {
        ws.control(&Control::SetMeta { name: "user", value: "Zoë" }).unwrap();
        ws.control(&Control::Subscribe { channel: "news", filters: &["skip-self"] }).unwrap();
        ws.control(&Control::Subscribe { channel: "names", filters: &["var-subst"] }).unwrap();
    }))
    .await;
    let mut client = stack.connect().await;
    let items = [news("hers").meta("sender", "Zoë"), news("his").meta("sender", "Al")];
    assert_eq!(stack.heard(&mut client, &items).await, Message::text("his"));
    let message = WsMessage::text("for %(user)s").content_filters(&["var-subst"]);
    let mut heard = stack.heard(&mut client, &[Item::new("names").websocket(message)]).await;
    while heard == Message::text("his") {
        heard = client.next().await;
    }
    assert_eq!(heard, Message::text("for Zoë"));
}

#[tokio::test]
async fn a_delayed_message_waits_for_its_time_the_next_one_or_a_flush() {
    let stack = Stack::start(answering(|ws, said| {
        let delayed = |text, timeout| Control::SendDelayed { message: Automatic::Text(text), timeout };
        match said {
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
    client.say("later").await;
    // The first went when the second came, the second a second later.
    for expected in ["first", "second"] {
        assert_eq!(client.next().await, Message::text(expected));
    }
    client.say("now").await;
    assert_eq!(client.next().await, Message::text("flushed"));
}

#[tokio::test]
async fn a_client_is_kept_alive_with_every_kind_of_message() {
    let stack = Stack::start(answering(|ws, said| {
        let (message, mode) = match said {
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
        client.say(kind).await;
        clients.push((client, expected));
    }
    for _ in 0..2 {
        for (client, expected) in &mut clients {
            assert_eq!(client.next().await, *expected);
        }
    }
}

#[tokio::test]
async fn a_keep_alive_can_be_ended() {
    let stack = Stack::start(answering(|ws, said| match said {
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
    client.say("on").await;
    assert_eq!(client.next().await, Message::text("beat"));
    client.say("off").await;
    // The proxy's own clock: four beats would fit in, one may be under way.
    let mut beats = 0;
    while client.next().await == Message::text("beat") {
        beats += 1;
    }
    assert!(beats < 3, "{beats} after the end");
}
