//! `make demo-grip`: starts a chat that a person can use. Then a WebSocket client, a long-poll and a stream talk to a
//! Lambda function through Pushpin. The function and its URL are those of `template.yml`, deployed into the emulator.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use postern_local::{Deployment, Emulator, EmulatorOptions, Process, Project, Steps, say, verdict};
use postern_pushpin::{Ports, Pushpin, Route, TIMEOUT, get, post};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::{WebSocketStream, client_async};

/// The key that Pushpin signs with and the function verifies with. It is used only in this demonstration.
const KEY: &str = "base64:b25seSBmb3IgdGhlIGRlbW9uc3RyYXRpb24=";

/// The issuer of Pushpin's signatures.
const ISSUER: &str = "pushpin";

/// The bearer token for `POST /publish`. It is used only in this demonstration.
const PUBLISH_TOKEN: &str = "only-for-the-demonstration";

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
    let chat = Chat::start(&project).await?;
    let mut good = chat.try_out().await?;
    let stack = Stack::start(&project, &folder).await?;
    let clients = stack.pushpin.clients();

    say("\nwithout the proxy");
    let path = stack.url.strip_prefix(&stack.emulator.endpoint()).unwrap_or_default();
    let refused = get(address(&stack.emulator.endpoint())?, path).await?.status == 403;
    good &= show("GET", "the function's URL", refused, "refused: 403");

    say(format_args!("\nWebSocket ws://{clients}/"));
    let (mut client, _) =
        client_async(format!("ws://{clients}/"), TcpStream::connect(clients).await?).await?;
    good &= echo(&mut client).await?;

    say("\npublished to every listener: POST /publish \"news\"");
    let without_token = post(clients, "/publish", None, b"news").await?.status == 401;
    good &= show("publisher", "without the token", without_token, "refused: 401");
    good &= timeout(TIMEOUT, publish(clients, &mut client)).await??;

    say("\nclosing");
    good &= close(&mut client).await?;

    chat.wait_for_person(good)?;
    drop((client, stack, chat));
    if good {
        say(
            "\nOK: only the proxy held connections; the function ran only when it had a request. Everything is stopped.",
        );
    } else {
        say(format_args!("\nFAILED\n  the logs are in {}", folder.display()));
    }
    Ok(good)
}

/// The chat of `examples/grip-chat`, and a Pushpin in front of it.
struct Chat {
    pushpin: Pushpin,
    _process: Process,
}

impl Chat {
    async fn start(project: &Project) -> Result<Self, Failure> {
        let ports = Ports::free()?;
        let port = postern_testing::free_port()?;
        let url = format!("{}/?verify-iss={ISSUER}&verify-key={KEY}", ports.control());
        let mut command = std::process::Command::new(project.program("grip-chat"));
        command.env("GRIP_URL", url).env("PORT", port.to_string());

        let log = project.fresh_folder("demo-grip-chat")?.join("chat.log");
        let process = Process::start("the chat", &mut command, &log)?;
        let route = Route::all(SocketAddr::from(([127, 0, 0, 1], port))).signed(ISSUER, KEY);
        Ok(Self { pushpin: Pushpin::start(ports, &[route]).await?, _process: process })
    }

    /// Prints the chat's address, and checks what a program sees there: a page, a token, and a message with its history.
    async fn try_out(&self) -> Result<bool, Failure> {
        let address = self.pushpin.clients();
        say(format_args!("a chat with rooms, history and presence: open http://{address}/ in two windows"));
        let page = get(address, "/").await?.text().await?.contains("<title>grip-chat</title>");
        let mut good = show("page", "GET /", page, "is served");

        let token = post(address, "/token", None, br#"{"name":"demo"}"#).await?.text().await?;
        let token = token.trim_start_matches(r#"{"token":""#).trim_end_matches(r#""}"#).to_owned();
        let message = br#"{"from":"somebody else","text":"hello"}"#;
        let authorization = format!("Bearer {token}");
        let written = post(address, "/channels/room.lobby", Some(&authorization), message).await?;
        good &= show("message", "to the room lobby", written.status == 200, "is published");

        let path = format!("/channels/room.lobby/poll?after=0&token={token}");
        let history = get(address, &path).await?.text().await?;
        let is_signed = history.contains(r#"{"from":"demo","text":"hello"}"#);
        good &=
            show("history", "of the room lobby", is_signed, "has the message, with the name of the token");
        Ok(good)
    }

    /// Leaves the chat open until the person at the terminal presses Enter. Without a terminal, it does not wait.
    fn wait_for_person(&self, good: bool) -> Result<(), Failure> {
        if good && std::io::stdin().is_terminal() {
            say(format_args!(
                "\nthe chat is still open at http://{}/; press Enter to stop",
                self.pushpin.clients()
            ));
            std::io::stdin().read_line(&mut String::new())?;
        }
        Ok(())
    }
}

/// The emulator with the deployed function, and Pushpin in front of the function's URL.
struct Stack {
    pushpin: Pushpin,
    url: String,
    emulator: Emulator,
}

impl Stack {
    async fn start(project: &Project, folder: &Path) -> Result<Self, Failure> {
        let steps = Steps::new();
        steps.step("starting the emulator (ministack)");
        let emulator = Emulator::start(project, folder, EmulatorOptions::default()).await?;
        let endpoint = emulator.endpoint();
        steps.step(format_args!("the emulator listens on {endpoint}; deploying template.yml with GRIP"));

        let ports = Ports::free()?;
        let secret =
            json!({"GRIP_URL": ports.control(), "GRIP_VERIFY_KEY": KEY, "GRIP_PUBLISH_TOKEN": PUBLISH_TOKEN});
        let secret = emulator.create_secret("grip", &secret.to_string()).await?;
        let deployment = Deployment::new("postern")
            .parameter("Grip", "true")
            .parameter("GripSecretArn", &secret)
            .parameter("GripVerifyIssuer", ISSUER)
            .parameter("GripPrefix", "demo-");
        let outputs = emulator.deploy(&deployment).await?;
        let url = outputs.get("GripEchoUrl").to_owned();
        steps.step(format_args!("deployed; the function URL of grip-echo is {url}"));

        let pushpin = Pushpin::start(ports, &[route(&emulator, &url)?]).await?;
        steps.step("Pushpin is running and signs the requests that it sends to the function");
        Ok(Self { pushpin, url, emulator })
    }
}

/// A route to the function's URL, which is one of many host names at the emulator's address, as on AWS.
fn route(emulator: &Emulator, url: &str) -> Result<Route, Failure> {
    let id = url.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let host = format!("{id}.lambda-url.us-east-1.on.aws");
    Ok(Route::all(address(&emulator.endpoint())?).host(&host).signed(ISSUER, KEY))
}

fn address(url: &str) -> Result<SocketAddr, Failure> {
    Ok(url.strip_prefix("http://").unwrap_or(url).parse()?)
}

/// Prints the result of one check, and returns whether it is right.
fn show(what: &str, input: &str, good: bool, result: &str) -> bool {
    say(format_args!("  {what:<10} {input:<20} {}", if good { result } else { "WRONG" }));
    good
}

/// Whether a text, a large binary message and a ping come back.
async fn echo(client: &mut Client) -> Result<bool, Failure> {
    let text = Message::text("Zoë says hello");
    let text_returned = exchange(client, text.clone()).await? == text;

    let bytes: Vec<u8> = (0..100_000_u32).map(|byte| byte.to_le_bytes()[0]).collect();
    let binary = Message::binary(bytes);
    let binary_returned = exchange(client, binary.clone()).await? == binary;

    let pong = exchange(client, Message::Ping("are you there".into())).await?;
    let payload_returned = pong == Message::Pong("are you there".into());

    Ok(show("text", "Zoë says hello", text_returned, "came back")
        & show("binary", "100,000 bytes", binary_returned, "came back")
        & show("ping", "are you there", payload_returned, "pong with the same payload"))
}

/// Sends a message and receives the next one.
async fn exchange(client: &mut Client, message: Message) -> Result<Message, Failure> {
    client.send(message).await?;
    next(client).await
}

async fn next(client: &mut Client) -> Result<Message, Failure> {
    timeout(TIMEOUT, client.next()).await?.ok_or("the connection ended")?.map_err(Into::into)
}

/// Whether a publication reaches the WebSocket, a long-poll and a stream. A client cannot see when Pushpin has subscribed
/// it, so the publication is repeated until all three clients have received it.
async fn publish(clients: SocketAddr, client: &mut Client) -> Result<bool, Failure> {
    let authorization = format!("Bearer {PUBLISH_TOKEN}");
    let mut stream = get(clients, "/stream").await?;
    let streamed = tokio::spawn(async move { stream.until("news").await });
    let polled = tokio::spawn(async move { get(clients, "/poll").await?.text().await });

    let mut on_socket = false;
    while !(on_socket && streamed.is_finished() && polled.is_finished()) {
        let answer = post(clients, "/publish", Some(&authorization), b"news").await?;
        if answer.status != 200 {
            return Err(format!("publishing was refused with HTTP {}", answer.status).into());
        }
        if let Ok(message) = timeout(Duration::from_millis(200), client.next()).await {
            on_socket |= matches!(message, Some(Ok(message)) if message == Message::text("news"));
        }
    }

    let streamed = streamed.await??;
    Ok(show("WebSocket", "", on_socket, "received the news")
        & show("long-poll", "GET /poll", polled.await?? == "news", "was answered with the news")
        & show("stream", "GET /stream", streamed.ends_with("news"), "continued with the news"))
}

/// Whether the close comes back with the same code and reason.
async fn close(client: &mut Client) -> Result<bool, Failure> {
    let frame = CloseFrame { code: CloseCode::from(4_001), reason: "bye bye".into() };
    client.close(Some(frame.clone())).await?;

    let returned = loop {
        // The last publications may still arrive before the close.
        if let Message::Close(returned) = next(client).await? {
            break returned;
        }
    };
    Ok(show("close", "4001 bye bye", returned == Some(frame), "closed with the same code and reason"))
}
