//! A chat room. A client of `ws://PROXY/NAME` enters the room as NAME and receives the messages of all others.
//!
//! The program neither holds connections nor remembers clients: Pushpin does both. `README.md` describes how to run it.

#![expect(clippy::print_stdout, reason = "the program prints its address")]

use bytes::Bytes;
use grip::{GripUrl, Item, Message, Publisher, WebSocket, WsMessage};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The channel that every client is subscribed to.
const ROOM: &str = "room";

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let control = std::env::var("GRIP_URL").unwrap_or("http://127.0.0.1:5561/".to_owned());
    let port = std::env::var("PORT").unwrap_or("9000".to_owned()).parse::<u16>()?;
    let publisher = Publisher::new(&GripUrl::parse(&control)?)?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("The chat room listens on http://{}", listener.local_addr()?);

    loop {
        let (socket, _) = listener.accept().await?;
        let publisher = publisher.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| answer(&publisher, request));
            // An error ends this connection of the proxy. The proxy opens another one.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

/// Publishes the texts of one request to the room, then answers the request.
async fn answer(publisher: &Publisher, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Failure> {
    let (parts, body) = request.into_parts();
    let request = Request::from_parts(parts, body.collect().await?.to_bytes());
    let (response, news) = chat(&request);

    let items: Vec<Item> =
        news.into_iter().map(|text| Item::new(ROOM).websocket(WsMessage::text(text))).collect();
    if !items.is_empty() {
        publisher.publish(&items).await?;
    }
    Ok(response.map(|body| Full::new(body.into())))
}

/// Reads a request of one client. Returns the response, and the texts to publish to the room.
fn chat(request: &Request<Bytes>) -> (Response<Vec<u8>>, Vec<String>) {
    let mut ws = match WebSocket::read(request) {
        Ok(ws) => ws,
        Err(error) => return (error.to_response(), Vec::new()),
    };
    let name = request.uri().path().trim_start_matches('/');
    let mut news = Vec::new();

    if ws.is_opening() {
        ws.accept();
        ws.subscribe(ROOM).expect("the channel's name is short");
        news.push(format!("{name} joined"));
    }
    while let Some(message) = ws.recv() {
        if let Message::Text(text) = message {
            news.push(format!("{name}: {text}"));
        }
    }
    if ws.end().is_some() {
        news.push(format!("{name} left"));
    }
    (ws.to_response(), news)
}
