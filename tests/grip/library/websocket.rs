//! What a function sends to a client and stores with a connection.

use grip::{Item, WebSocket, WsMessage};
use tokio::net::TcpStream;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::error::Error as WsError;
use tokio_tungstenite::tungstenite::{Bytes, Message};

use crate::client::within_timeout;
use crate::library::function::{Stack, answering};

#[tokio::test]
async fn a_function_stores_values_pings_and_closes() {
    let stack = Stack::start(answering(|ws, text| match text {
        "count" => {
            let count = ws.meta("count").map_or(0, |count| count.parse::<u32>().unwrap()) + 1;
            ws.send(&count.to_string());
            ws.set_meta("count", &count.to_string()).unwrap();
        }
        "forget" => {
            ws.send("forgotten");
            ws.set_meta("count", "").unwrap();
        }
        "ping" => ws.ping(b"are you there"),
        "close" => ws.close(4002, "as you wish").unwrap(),
        _ => {}
    }))
    .await;
    let mut client = stack.connect().await;

    for (text, expected) in [("count", "1"), ("count", "2"), ("forget", "forgotten"), ("count", "1")] {
        client.send(text).await;
        assert_eq!(client.next().await, Message::text(expected));
    }
    client.send("ping").await;

    assert_eq!(client.next().await, Message::Ping(Bytes::from_static(b"are you there")));
    client.send("close").await;
    assert_eq!(client.closed().await, (4002, "as you wish".to_owned()));
}

#[tokio::test]
async fn a_subprotocol_is_chosen_and_a_refusal_is_seen() {
    let stack = Stack::start(|request| {
        let mut ws = WebSocket::read(request).unwrap();
        if ws.is_opening() && ws.protocols().any(|protocol| protocol == "chat") {
            ws.accept_protocol("chat").unwrap();
        }
        ws.to_response()
    })
    .await;
    let connect = async |protocols: &'static str| {
        let mut request = format!("ws://{}/", stack.clients()).into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", protocols.parse().unwrap());
        let socket = within_timeout(TcpStream::connect(stack.clients())).await.unwrap();
        within_timeout(client_async(request, socket)).await
    };
    let (_, response) = connect("superchat, chat").await.unwrap();

    assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
    match connect("superchat").await {
        Err(WsError::Http(response)) => assert_eq!(response.status(), 403),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_unsubscribed_client_receives_no_more() {
    let stack = Stack::start(answering(|ws, text| {
        if text == "open" {
            ws.subscribe("news").unwrap();
        } else {
            ws.unsubscribe("news").unwrap();
            ws.subscribe("other").unwrap();
            ws.send("done");
        }
    }))
    .await;
    let mut client = stack.connect().await;
    let item = |channel, text| Item::new(channel).websocket(WsMessage::text(text));
    assert_eq!(
        stack.publish_until_received(&mut client, &[item("news", "news")]).await,
        Message::text("news")
    );
    client.send("quiet").await;
    client.skip_to(&Message::text("done")).await;

    while stack.publish_until_received(&mut client, &[item("other", "other")]).await != Message::text("other")
    {
    }
    stack.publish(&[item("news", "unheard"), item("other", "end")]).await;
    let mut heard = client.next().await;
    while heard == Message::text("other") {
        heard = client.next().await;
    }
    assert_eq!(heard, Message::text("end"));
}
