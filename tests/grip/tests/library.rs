//! What a function can tell a real Pushpin, and what a client sees of it. The function is a handler in this
//! process: Lambda has no part in it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use grip::{
    Automatic, Control, GripUrl, Hold, HttpStream, Item, KeepAlive, Message as Received, Mode, Publisher,
    WebSocket, WsMessage,
};
use grip_stack::{PATIENCE, Ports, Pushpin, Route, Server, get, serve};
use http::{Request, Response, StatusCode};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::error::Error as WsError;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

type Client = WebSocketStream<TcpStream>;

struct Stack {
    _server: Server,
    pushpin: Pushpin,
    publisher: Publisher,
}

async fn stack(handler: fn(&Request<Vec<u8>>) -> Response<Vec<u8>>) -> Stack {
    let ports = Ports::free().unwrap();
    let server = serve(move |request: Request<Vec<u8>>| async move { handler(&request) }).await.unwrap();
    let pushpin = Pushpin::start(ports, &[Route::all(server.address())]).await;
    let pushpin = pushpin.unwrap_or_else(|error| panic!("{error}"));
    let publisher = Publisher::new(&GripUrl::parse(&ports.control()).unwrap()).unwrap();
    Stack { _server: server, pushpin, publisher }
}

async fn soon<T>(work: impl Future<Output = T>) -> T {
    timeout(PATIENCE, work).await.expect("in time")
}

async fn connect(address: SocketAddr) -> Client {
    let socket = soon(TcpStream::connect(address)).await.unwrap();
    soon(client_async(format!("ws://{address}/"), socket)).await.unwrap().0
}

async fn next(client: &mut Client) -> Message {
    soon(client.next()).await.expect("the connection lives").unwrap()
}

impl Stack {
    /// Publishes until it is heard, and to the end of it.
    async fn heard(&self, client: &mut Client, item: impl Fn() -> Item) -> Message {
        loop {
            self.publisher.publish(&[item()]).await.unwrap();
            if let Ok(heard) = timeout(Duration::from_millis(100), next(client)).await {
                return heard;
            }
        }
    }
}

/// Does what it is told, and subscribes to `news`.
fn obedient(request: &Request<Vec<u8>>) -> Response<Vec<u8>> {
    let Ok(mut ws) = WebSocket::read(request) else { return Response::default() };
    if ws.is_opening() {
        if ws.protocols().any(|protocol| protocol == "chat") {
            ws.accept_protocol("chat").unwrap();
        }
        ws.accept();
        ws.subscribe("news").unwrap();
        ws.set_meta("count", "0").unwrap();
    }
    let mut count: u32 = ws.meta("count").and_then(|count| count.parse().ok()).unwrap_or(0);
    while let Some(message) = ws.recv() {
        count += 1;
        match message {
            Received::Text("close") => ws.close(4002, "as you wish").unwrap(),
            Received::Text("count") => ws.send(&count.to_string()),
            Received::Text("ping") => ws.ping(b"are you there"),
            Received::Text("later") => {
                ws.control(&Control::SendDelayed { message: Automatic::Text("delayed"), timeout: 600 })
                    .unwrap();
                ws.control(&Control::FlushDelayed).unwrap();
            }
            Received::Text("beat") => {
                let message = Some(Automatic::Binary(b"\0beat"));
                ws.control(&Control::KeepAlive { message, timeout: 1, mode: Mode::Interval }).unwrap();
            }
            Received::Text("quiet") => {
                ws.unsubscribe("news").unwrap();
                ws.subscribe("other").unwrap();
                ws.send("done");
            }
            _ => ws.control(&Control::SetMeta { name: "user", value: "x" }).unwrap(),
        }
    }
    if !ws.is_opening() {
        ws.set_meta("count", &count.to_string()).unwrap();
    }
    ws.to_response()
}

#[tokio::test]
async fn a_function_closes_pings_and_remembers() {
    let stack = stack(obedient).await;
    let mut client = connect(stack.pushpin.clients()).await;
    for expected in ["1", "2", "3"] {
        soon(client.send("count".into())).await.unwrap();
        assert_eq!(next(&mut client).await, Message::text(expected));
    }
    soon(client.send("ping".into())).await.unwrap();
    assert_eq!(next(&mut client).await, Message::Ping(Bytes::from_static(b"are you there")));
    soon(client.send("close".into())).await.unwrap();
    match next(&mut client).await {
        Message::Close(Some(close)) => {
            assert_eq!((close.code.into(), &*close.reason), (4002_u16, "as you wish"));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_subprotocol_is_chosen_and_a_refusal_is_seen() {
    let address = stack(obedient).await;
    let clients = address.pushpin.clients();
    let mut request = format!("ws://{clients}/").into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "chat, superchat".parse().unwrap());
    let socket = soon(TcpStream::connect(clients)).await.unwrap();
    let (_, response) = soon(client_async(request, socket)).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "chat");

    let refusing = stack(|request| WebSocket::read(request).unwrap().to_response()).await;
    let clients = refusing.pushpin.clients();
    let socket = soon(TcpStream::connect(clients)).await.unwrap();
    match soon(client_async(format!("ws://{clients}/"), socket)).await {
        Err(WsError::Http(response)) => assert_eq!(response.status(), 403),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_proxy_sends_by_itself_what_it_is_told_to() {
    let stack = stack(obedient).await;
    let mut client = connect(stack.pushpin.clients()).await;
    soon(client.send("later".into())).await.unwrap();
    assert_eq!(next(&mut client).await, Message::text("delayed"));
    soon(client.send("beat".into())).await.unwrap();
    for _ in 0..2 {
        assert_eq!(next(&mut client).await, Message::binary(b"\0beat".to_vec()));
    }
}

#[tokio::test]
async fn every_publication_reaches_a_websocket() {
    let stack = stack(obedient).await;
    let mut client = connect(stack.pushpin.clients()).await;
    let item = |message: WsMessage| Item::new("news").websocket(message);
    let heard = stack.heard(&mut client, || item(WsMessage::binary(b"\xff\0"))).await;
    assert_eq!(heard, Message::binary(b"\xff\0".to_vec()));
    let close = WsMessage::close(4003, "over").unwrap();
    let items = [
        item(WsMessage::text("Zoë")).id("2").prev_id("1").no_seq(),
        item(WsMessage::ping(b"p")),
        item(WsMessage::pong(b"q")),
        item(close),
    ];
    soon(stack.publisher.publish(&items)).await.unwrap();
    // What was published while nobody knew whether it is heard.
    let mut next_new = next(&mut client).await;
    while next_new == Message::binary(b"\xff\0".to_vec()) {
        next_new = next(&mut client).await;
    }
    assert_eq!(next_new, Message::text("Zoë"));
    assert_eq!(next(&mut client).await, Message::Ping(Bytes::from_static(b"p")));
    assert_eq!(next(&mut client).await, Message::Pong(Bytes::from_static(b"q")));
    match next(&mut client).await {
        Message::Close(Some(close)) => assert_eq!((close.code.into(), &*close.reason), (4003_u16, "over")),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn who_unsubscribes_hears_no_more() {
    let stack = stack(obedient).await;
    let mut client = connect(stack.pushpin.clients()).await;
    soon(client.send("quiet".into())).await.unwrap();
    assert_eq!(next(&mut client).await, Message::text("done"));
    let other = || Item::new("other").websocket(WsMessage::text("other"));
    assert_eq!(stack.heard(&mut client, other).await, Message::text("other"));
    let news = Item::new("news").websocket(WsMessage::text("news"));
    soon(stack.publisher.publish(&[news, other().no_seq()])).await.unwrap();
    assert_eq!(next(&mut client).await, Message::text("other"));
}

fn held(request: &Request<Vec<u8>>) -> Response<Vec<u8>> {
    let first = Response::builder().header("x-kept", "1").body(b"first\n".to_vec()).unwrap();
    let poll = Hold::response(5).channel("a, b; \"c\"").status(StatusCode::ACCEPTED);
    let stream = Hold::stream().channel("lines").meta("user", "Ann B");
    match request.uri().path() {
        "/poll-json" => poll.instruct(&first).unwrap(),
        "/poll-timeout" => {
            Hold::response(5).channel("never").status(StatusCode::ACCEPTED).apply(first).unwrap()
        }
        "/stream-cstring" => {
            stream.keep_alive(KeepAlive::new("\\ tick\r\n", 1).mode(Mode::Interval)).apply(first).unwrap()
        }
        "/stream-base64" => stream.keep_alive(KeepAlive::new("a,b;\"c\"\n", 1)).apply(first).unwrap(),
        "/stream-raw" => stream.keep_alive(KeepAlive::new("tick tock", 1)).apply(first).unwrap(),
        _ => Response::default(),
    }
}

#[tokio::test]
async fn keep_alives_of_every_format_arrive() {
    let stack = stack(held).await;
    for (path, data) in
        [("/stream-cstring", "\\ tick\r\n"), ("/stream-base64", "a,b;\"c\"\n"), ("/stream-raw", "tick tock")]
    {
        let mut answer = soon(get(stack.pushpin.clients(), path)).await.unwrap();
        assert_eq!(answer.headers["x-kept"], "1");
        let expected = format!("first\n{data}{data}");
        assert_eq!(soon(answer.until(&format!("{data}{data}"))).await.unwrap(), expected, "{path}");
    }
}

#[tokio::test]
async fn a_stream_is_closed_by_a_publication() {
    let stack = stack(held).await;
    let answer = soon(get(stack.pushpin.clients(), "/stream-cstring")).await.unwrap();
    let read = tokio::spawn(answer.text());
    while !read.is_finished() {
        let items = [
            Item::new("lines").stream(HttpStream::binary(b"last\n")),
            Item::new("lines").stream(HttpStream::close()),
        ];
        soon(stack.publisher.publish(&items)).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert!(read.await.unwrap().unwrap().ends_with("last\n"));
}

#[tokio::test]
async fn a_poll_ends_with_the_given_status_or_with_the_news() {
    let stack = stack(held).await;
    let clients = stack.pushpin.clients();
    let silent = soon(get(clients, "/poll-timeout")).await.unwrap();
    assert_eq!((silent.status, &silent.headers["x-kept"]), (StatusCode::ACCEPTED, &"1".parse().unwrap()));
    assert_eq!(soon(silent.text()).await.unwrap(), "first\n");
    let polled = tokio::spawn(get(clients, "/poll-json"));
    while !polled.is_finished() {
        let news = Response::builder().status(201).body(b"\xff\0".to_vec()).unwrap();
        let item = Item::new("a, b; \"c\"").response(&news).unwrap();
        soon(stack.publisher.publish(&[item])).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(polled.await.unwrap().unwrap().status, StatusCode::CREATED);
}
