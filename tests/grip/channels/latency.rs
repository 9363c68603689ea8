//! How long it takes from publishing an item to receiving it: a measurement, not a test. `make bench-publish` runs it.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use grip::channels::{Anybody, Channels, DynamoStore, MemoryStore, Store};
use grip::{GripUrl, Hold, Item, Publisher, WebSocket, WsMessage};
use http::{Request, Response};
use postern_local::{Emulator, EmulatorOptions, Project};
use postern_pushpin::{Ports, Pushpin, Route, serve};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::table::{self, TABLE};

/// The items of each measurement.
const COUNT: usize = 500;

/// The channel.
const CHANNEL: &str = "latency";

/// Accepts every client, and subscribes it.
async fn subscribing(request: Request<Vec<u8>>) -> Response<Vec<u8>> {
    let Ok(mut ws) = WebSocket::read(&request) else {
        return Hold::stream().channel(CHANNEL).apply(Response::new(Vec::new())).unwrap();
    };
    if ws.is_opening() {
        ws.accept();
        ws.subscribe(CHANNEL).unwrap();
    }
    while ws.recv().is_some() {}
    ws.to_response()
}

#[tokio::test]
#[ignore = "a measurement: make bench-publish"]
async fn from_publishing_to_receiving() {
    let function = serve(subscribing).await.unwrap();
    let ports = Ports::free().unwrap();
    let pushpin = Pushpin::start(ports, &[Route::all(function.address())]).await.unwrap();
    let publisher = Publisher::new(&GripUrl::parse(&ports.control()).unwrap()).unwrap();

    let project = Project::here().unwrap();
    let folder = project.fresh_folder("grip-latency").unwrap();
    let emulator = Emulator::start(&project, &folder, EmulatorOptions::default()).await.unwrap();
    let database = aws_sdk_dynamodb::Client::new(&emulator.sdk_config());
    table::create(&database).await;

    let mut client = connect(&pushpin, &publisher).await;
    let mut plain = Vec::new();
    for n in 0..COUNT {
        let start = Instant::now();
        let items = [Item::new(CHANNEL).websocket(WsMessage::text(format!("message {n}")))];
        let received = async {
            client.next().await.unwrap().unwrap();
            plain.push(start.elapsed());
        };
        let (sent, ()) = tokio::join!(publisher.publish(&items), received);
        sent.unwrap();
    }
    let memory = with_history(MemoryStore::new(), &publisher, &mut client).await;
    let dynamo = with_history(DynamoStore::new(database, TABLE), &publisher, &mut client).await;
    client.close(None).await.unwrap();

    let node = node(&project, &ports.control(), &format!("ws://{}/", pushpin.clients())).await;
    println!("| published with | p50, ms | p99, ms |\n| --- | ---: | ---: |");
    report("`Publisher`, no history", plain);
    report("`Channels`, history in memory", memory);
    report("`Channels`, history in the emulated DynamoDB", dynamo);
    report("Node, `@fanoutio/grip`, no history", node);
}

async fn with_history<S: Store>(
    store: S,
    publisher: &Publisher,
    client: &mut WebSocketStream<TcpStream>,
) -> Vec<Duration> {
    let channels = Channels::new(store, publisher.clone(), Anybody);
    let mut times = Vec::new();
    for _ in 0..COUNT {
        let start = Instant::now();
        let received = async {
            client.next().await.unwrap().unwrap();
            times.push(start.elapsed());
        };
        let (sent, ()) = tokio::join!(channels.publish(CHANNEL, r#""message""#), received);
        sent.unwrap();
    }
    times
}

/// A client that is subscribed, and has received everything that showed it.
async fn connect(pushpin: &Pushpin, publisher: &Publisher) -> WebSocketStream<TcpStream> {
    let socket = TcpStream::connect(pushpin.clients()).await.unwrap();
    let (mut client, _) = client_async(format!("ws://{}/", pushpin.clients()), socket).await.unwrap();

    for n in 0.. {
        let probe = format!("probe {n}");
        publisher.publish(&[Item::new(CHANNEL).websocket(WsMessage::text(&*probe))]).await.unwrap();
        let arrived = async { while client.next().await.unwrap().unwrap() != Message::text(&*probe) {} };
        if tokio::time::timeout(Duration::from_millis(100), arrived).await.is_ok() {
            break;
        }
    }
    client
}

/// The same with the library of Node, which publishes and receives in its own process.
async fn node(project: &Project, control: &str, clients: &str) -> Vec<Duration> {
    let output = Command::new("node")
        .args(["--no-warnings", "--experimental-websocket"])
        .arg(project.file("benches/grip/peers/publish.mjs"))
        .arg(project.file(".postern/bench-npm/node_modules"))
        .args([control, clients, &COUNT.to_string()])
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| Duration::from_micros(line.parse().unwrap())).collect()
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |percent: usize| times[times.len() * percent / 100].as_secs_f64() * 1_000.0;
    println!("| {what} | {:.2} | {:.2} |", at(50), at(99));
}
