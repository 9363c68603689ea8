//! Clients that may not do what they ask for, and clients that may no longer.

use std::time::{Duration, SystemTime};

use grip::channels::{Action, Channels, JwtAuthorizer, MemoryStore};
use grip::{GripUrl, Key, Publisher};
use http::header::{HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use postern_pushpin::post;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::error::Error as WsError;

use super::chat::{Chat, token};
use crate::client::{Client, within_timeout};

const ALL: [Action; 3] = [Action::Subscribe, Action::Publish, Action::Presence];

/// Opens a WebSocket with a token.
async fn open(chat: &Chat, token: &str) -> Result<Client, WsError> {
    let address = chat.clients();
    let mut request = format!("ws://{address}/channels").into_client_request().unwrap();
    let protocols = HeaderValue::from_str(&format!("grip-channels.1, bearer.{token}")).unwrap();
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, protocols);
    within_timeout(async {
        let socket = TcpStream::connect(address).await.unwrap();
        client_async(request, socket).await.map(|(socket, _)| Client(socket))
    })
    .await
}

async fn ask(client: &mut Client, message: &Value) {
    client.send(message.to_string()).await;
}

/// The next message of this type.
async fn next(client: &mut Client, kind: &str) -> Value {
    loop {
        if let Message::Text(text) = client.next().await {
            let message: Value = serde_json::from_str(&text).unwrap();
            if message["type"] == kind {
                return message;
            }
        }
    }
}

fn subscribe(channel: &str, position: Option<&str>) -> Value {
    json!({ "type": "subscribe", "n": 1, "channels": { channel: position } })
}

fn minute() -> Duration {
    Duration::from_mins(1)
}

#[tokio::test]
async fn a_token_for_another_channel_opens_no_channel_but_its_own() {
    let chat = Chat::start(&[]).await;
    let ann = token("ann", "room.ann", &ALL, minute());
    let mut client = open(&chat, &ann).await.unwrap();

    ask(&mut client, &subscribe("room.bob", None)).await;
    assert_eq!(next(&mut client, "denied").await["channel"], "room.bob");
    ask(&mut client, &json!({ "type": "publish", "channel": "room.bob", "data": {}, "ref": 7 })).await;
    assert_eq!(next(&mut client, "unpublished").await["ref"], 7);
    ask(&mut client, &json!({ "type": "enter", "channel": "room.bob" })).await;
    assert_eq!(next(&mut client, "denied").await["action"], "presence");

    ask(&mut client, &subscribe("room.ann", None)).await;
    assert_eq!(next(&mut client, "subscribed").await["channel"], "room.ann");
    let authorization = format!("Bearer {ann}");
    let other = post(chat.function(), "/channels/room.bob", Some(&authorization), b"{}").await.unwrap();
    let own = post(chat.function(), "/channels/room.ann", Some(&authorization), b"{}").await.unwrap();
    assert_eq!((other.status.as_u16(), own.status.as_u16()), (403, 200));
}

#[tokio::test]
async fn an_expired_token_opens_nothing_and_ends_an_open_connection() {
    let chat = Chat::start(&[("CHAT_KEEP_ALIVE", "20")]).await;
    let expired = token("ann", "room.*", &ALL, Duration::ZERO);
    match open(&chat, &expired).await {
        Err(WsError::Http(response)) => assert_eq!(response.status(), 401),
        other => panic!("{:?}", other.map(|_| ())),
    }

    // The token ends while the connection is silent: the proxy's keep-alive ends it. It comes after 20 seconds at least.
    let mut client = open(&chat, &token("ann", "room.*", &ALL, Duration::from_secs(3))).await.unwrap();
    let (code, reason) = client.closed().await;
    assert_eq!((code, reason.contains("expired")), (4401, true), "{reason}");
}

#[tokio::test]
async fn revoking_a_token_closes_its_connections_and_refuses_it() {
    let chat = Chat::start(&[]).await;
    let (ann, bob) = (token("ann", "room.*", &ALL, minute()), token("bob", "room.*", &ALL, minute()));
    let mut anns = open(&chat, &ann).await.unwrap();
    let mut bobs = open(&chat, &bob).await.unwrap();
    for client in [&mut anns, &mut bobs] {
        ask(client, &subscribe("room.7", None)).await;
        next(client, "subscribing").await;
        // The marker arrives when the subscriptions are active, the one for revocation among them.
        loop {
            ask(client, &json!({ "type": "confirm", "n": 1, "channels": {} })).await;
            if tokio::time::timeout(Duration::from_millis(200), next(client, "live")).await.is_ok() {
                break;
            }
        }
    }

    // Another process than the one that serves the connection, which shares only the proxy with it.
    let publisher = Publisher::new(&GripUrl::parse(&chat.control()).unwrap()).unwrap();
    let other = Channels::new(MemoryStore::new(), publisher, JwtAuthorizer::new(Key::parse("x").unwrap()));
    other.revoke_token("token of ann", SystemTime::now() + minute()).await.unwrap();

    // Replies to the confirmations may still be on their way.
    let close = loop {
        if let Message::Close(Some(frame)) = anns.next().await {
            break (u16::from(frame.code), frame.reason.to_string());
        }
    };
    assert_eq!(close, (4403, "revoked".to_owned()));
    ask(&mut bobs, &json!({ "type": "publish", "channel": "room.7", "data": {}, "ref": 1 })).await;
    next(&mut bobs, "published").await;
}

#[tokio::test]
async fn a_forged_position_is_refused() {
    let chat = Chat::start(&[]).await;
    let ann = token("ann", "room.*", &ALL, minute());
    let mut client = open(&chat, &ann).await.unwrap();
    ask(&mut client, &json!({ "type": "publish", "channel": "room.7", "data": {}, "ref": 1 })).await;
    let id = next(&mut client, "published").await["id"].as_str().unwrap().to_owned();

    let (epoch, _) = id.split_once('-').unwrap();
    for forged in
        [format!("{epoch}-2"), format!("{epoch}-18446744073709551615"), format!("{epoch}-01"), "x".to_owned()]
    {
        ask(&mut client, &subscribe("room.7", Some(&forged))).await;
        assert_eq!(next(&mut client, "refused").await["code"], "position", "{forged}");
    }
    ask(&mut client, &subscribe("room.7", Some(&format!("{epoch}-0")))).await;
    assert_eq!(next(&mut client, "item").await["id"], *id);
}

#[tokio::test]
async fn a_channel_name_of_ten_kilobytes_is_refused() {
    let chat = Chat::start(&[]).await;
    let ann = token("ann", "**", &ALL, minute());
    let mut client = open(&chat, &ann).await.unwrap();
    let long = "x".repeat(10_000);

    ask(&mut client, &subscribe(&long, None)).await;
    let refused = next(&mut client, "refused").await;
    assert_eq!(refused["code"], "name");
    assert!(refused.to_string().len() < 400, "the name is not sent back whole");
    ask(&mut client, &json!({ "type": "publish", "channel": long, "data": {}, "ref": 1 })).await;
    assert_eq!(next(&mut client, "unpublished").await["code"], "refused");
}

#[tokio::test]
async fn a_message_has_the_name_of_the_token_whatever_its_author_writes() {
    let chat = Chat::start(&[]).await;
    let ann = token("ann", "room.*", &ALL, minute());
    let mut client = open(&chat, &ann).await.unwrap();
    let faked = json!({ "from": "bob", "text": "hello" });
    ask(&mut client, &json!({ "type": "publish", "channel": "room.7", "data": faked, "ref": 1 })).await;
    next(&mut client, "published").await;
    let authorization = format!("Bearer {ann}");
    let body = faked.to_string();
    post(chat.function(), "/channels/room.7", Some(&authorization), body.as_bytes()).await.unwrap();

    ask(&mut client, &json!({ "type": "subscribe", "n": 1, "channels": { "room.7": "0" } })).await;
    for _ in 0..2 {
        assert_eq!(next(&mut client, "item").await["data"], json!({ "from": "ann", "text": "hello" }));
    }

    // A message that cannot be signed is refused.
    ask(&mut client, &json!({ "type": "publish", "channel": "room.7", "data": "hello", "ref": 2 })).await;
    assert_eq!(next(&mut client, "unpublished").await["code"], "refused");
    let answer = post(chat.function(), "/channels/room.7", Some(&authorization), b"\"hello\"").await.unwrap();
    assert_eq!(answer.status, 400);
}
