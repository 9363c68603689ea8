//! `make demo-grip`: a WebSocket client, a long-poll and a stream talk to a Lambda function through Pushpin. The
//! function and its URL are those of `template.yml`, in the emulated cloud.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use postern_local::{Deployment, Emulator, EmulatorOptions, Project, Steps, say, verdict};
use postern_pushpin::{Ports, Pushpin, Route, TIMEOUT, get, post};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::{WebSocketStream, client_async};

/// What Pushpin signs with and the function checks. It is of no use elsewhere.
const KEY: &str = "base64:b25seSBmb3IgdGhlIGRlbW9uc3RyYXRpb24=";
const ISSUER: &str = "pushpin";

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Client = WebSocketStream<TcpStream>;

#[tokio::main]
async fn main() -> ExitCode {
    verdict(demo().await)
}

async fn demo() -> Result<bool, Failure> {
    let project = Project::here()?;
    let folder = project.fresh_folder("demo-grip")?;
    say("Postern: raw WebSockets, a long-poll and a stream on a Lambda function\n");
    let steps = Steps::new();
    steps.step("starting the emulator: ministack");
    let cloud = Emulator::start(&project, &folder, EmulatorOptions::default()).await?;
    steps.step(format_args!("it listens on {}; deploying template.yml with GRIP", cloud.endpoint()));
    let ports = Ports::free()?;
    let deployment = Deployment::new("postern")
        .parameter("GripUrl", &ports.control())
        .parameter("GripVerifyKey", KEY)
        .parameter("GripVerifyIssuer", ISSUER)
        .parameter("GripPrefix", "demo-");
    let outputs = cloud.deploy(&deployment).await?;
    let url = outputs.get("GripEchoUrl");
    steps.step(format_args!("deployed; grip-echo's function URL is {url}"));
    let pushpin = Pushpin::start(ports, &[route(&cloud, url)?]).await?;
    let clients = pushpin.clients();
    steps.step("Pushpin runs, and signs what it passes on to the function");

    say("\nwithout the proxy");
    let path = url.strip_prefix(&cloud.endpoint()).unwrap_or_default();
    let refused = get(address(&cloud.endpoint())?, path).await?.status == 403;
    let mut good = show("GET", "the function's URL", refused, "refused: 403");

    say(format_args!("\nWebSocket ws://{clients}/"));
    let (mut client, _) =
        client_async(format!("ws://{clients}/"), TcpStream::connect(clients).await?).await?;
    let bytes: Vec<u8> = (0..100_000_u32).map(|byte| byte.to_le_bytes()[0]).collect();
    let text = Message::text("Zoë says hello");
    good &= show("text", "Zoë says hello", ask(&mut client, text.clone()).await? == text, "came back");
    let binary = Message::binary(bytes);
    good &= show("binary", "100,000 bytes", ask(&mut client, binary.clone()).await? == binary, "came back");
    let pong = ask(&mut client, Message::Ping("are you there".into())).await?;
    let same = pong == Message::Pong("are you there".into());
    good &= show("ping", "are you there", same, "pong, with the same payload");

    say("\npublished to everybody who listens: POST /publish \"news\"");
    good &= timeout(TIMEOUT, published(clients, &mut client)).await??;

    say("\nand goodbye");
    let frame = CloseFrame { code: CloseCode::from(4_001), reason: "bye bye".into() };
    client.close(Some(frame.clone())).await?;
    let heard = loop {
        // What was published last may still be on its way.
        if let Message::Close(heard) = next(&mut client).await? {
            break heard;
        }
    };
    good &= show("close", "4001 bye bye", heard == Some(frame), "closed with the same code and reason");

    drop((client, pushpin, cloud));
    if good {
        say(
            "\nOK: no server ran but the proxy; the function was invoked only when somebody spoke. Everything is stopped.",
        );
    } else {
        say(format_args!("\nFAILED\n  the logs are in {}", folder.display()));
    }
    Ok(good)
}

/// To the function's URL: it is one of many names at the emulator's address, as on AWS.
fn route(cloud: &Emulator, url: &str) -> Result<Route, Failure> {
    let id = url.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let host = format!("{id}.lambda-url.us-east-1.on.aws");
    Ok(Route::all(address(&cloud.endpoint())?).host(&host).signed(ISSUER, KEY))
}

fn address(url: &str) -> Result<SocketAddr, Failure> {
    Ok(url.strip_prefix("http://").unwrap_or(url).parse()?)
}

/// Says what came of something; whether it was as it should.
fn show(what: &str, said: &str, good: bool, outcome: &str) -> bool {
    say(format_args!("  {what:<10} {said:<20} {}", if good { outcome } else { "NOT as it should be" }));
    good
}

/// Sends a message; the next that comes.
async fn ask(client: &mut Client, message: Message) -> Result<Message, Failure> {
    client.send(message).await?;
    next(client).await
}

async fn next(client: &mut Client) -> Result<Message, Failure> {
    timeout(TIMEOUT, client.next()).await?.ok_or("the connection ended")?.map_err(Into::into)
}

/// Whether what is published reaches the WebSocket, a long-poll and a stream. None of them says when it listens:
/// it is published until all have heard.
async fn published(clients: SocketAddr, client: &mut Client) -> Result<bool, Failure> {
    let mut stream = get(clients, "/stream").await?;
    let streamed = tokio::spawn(async move { stream.until("news").await });
    let polled = tokio::spawn(async move { get(clients, "/poll").await?.text().await });
    let mut on_socket = false;
    while !(on_socket && streamed.is_finished() && polled.is_finished()) {
        let answer = post(clients, "/publish", None, b"news").await?;
        if answer.status != 200 {
            return Err(format!("publishing was refused with {}", answer.status).into());
        }
        if let Ok(heard) = timeout(Duration::from_millis(200), client.next()).await {
            on_socket |= matches!(heard, Some(Ok(message)) if message == Message::text("news"));
        }
    }
    let streamed = streamed.await??;
    Ok(show("WebSocket", "", on_socket, "heard the news")
        & show("long-poll", "GET /poll", polled.await?? == "news", "was answered with the news")
        & show("stream", "GET /stream", streamed.ends_with("news"), "went on with the news"))
}
