//! The function's real binary behind a real Pushpin, seen by a WebSocket client that is not ours.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::{SinkExt as _, StreamExt as _};
use grip_stack::{Answer, Function, PATIENCE, Ports, Pushpin, Route, get, post};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use tokio::net::TcpStream;
use tokio::sync::{Barrier, Semaphore, SemaphorePermit};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::error::Error as WsError;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

/// Turns: many stacks side by side, but one alone where a test is about load.
static TURNS: Semaphore = Semaphore::const_new(ALL_TURNS as usize);
const ALL_TURNS: u32 = 8;

/// A function, and a Pushpin in front of it.
struct Stack {
    _turn: SemaphorePermit<'static>,
    function: Function,
    pushpin: Pushpin,
    ports: Ports,
}

const SECRET: &str = "base64:AAEC/+8gc2VjcmV0";

const SIGNED: [(&str, &str); 2] = [("GRIP_VERIFY_KEY", SECRET), ("GRIP_VERIFY_ISS", "pushpin")];

impl Stack {
    /// Signed with a secret, which the function wants.
    async fn start() -> Self {
        Self::with(&SIGNED, "pushpin", SECRET).await
    }

    /// As [`start`](Self::start), with no other beside it.
    async fn alone() -> Self {
        let turn = TURNS.acquire_many(ALL_TURNS).await.unwrap();
        Self::launch(turn, &SIGNED, "pushpin", SECRET).await
    }

    async fn with(variables: &[(&str, &str)], issuer: &str, key: &str) -> Self {
        let turn = TURNS.acquire().await.unwrap();
        Self::launch(turn, variables, issuer, key).await
    }

    async fn launch(
        turn: SemaphorePermit<'static>,
        variables: &[(&str, &str)],
        issuer: &str,
        key: &str,
    ) -> Self {
        let ports = Ports::free().unwrap();
        let url = ports.control();
        let variables = [&[("GRIP_URL", &*url), ("GRIP_PREFIX", "test-")], variables].concat();
        let bootstrap = env!("CARGO_BIN_EXE_grip-echo").as_ref();
        let function = Function::start(bootstrap, 2, &variables).await.unwrap();
        let route = Route::all(function.address()).signed(issuer, key);
        let pushpin = Pushpin::start(ports, &[route]).await.unwrap_or_else(|error| panic!("{error}"));
        Self { _turn: turn, function, pushpin, ports }
    }

    async fn connect(&self) -> Client {
        self.connect_to("/").await.unwrap()
    }

    async fn connect_to(&self, path: &str) -> Result<Client, WsError> {
        let address = self.pushpin.clients();
        soon(async {
            loop {
                let socket = TcpStream::connect(address).await?;
                match client_async(format!("ws://{address}{path}"), socket).await {
                    // Pushpin's own, now and then on a busy machine: the function was not asked.
                    Err(WsError::Http(response)) if response.status() == 502 => {}
                    connected => return connected.map(|(socket, _)| Client(socket)),
                }
            }
        })
        .await
    }

    async fn get(&self, path: &str) -> Answer {
        soon(get(self.pushpin.clients(), path)).await.unwrap()
    }

    async fn publish(&self, text: &str) {
        let answer = soon(post(self.pushpin.clients(), "/publish", None, text.as_bytes())).await.unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.text().await.unwrap(), "Published\n");
    }

    /// A client that hears what is published. Pushpin subscribes it some time after it is connected.
    async fn listener(&self) -> Client {
        let mut client = self.connect().await;
        for n in 0.. {
            let sign = Message::text(format!("sign {n}"));
            self.publish(sign.to_text().unwrap()).await;
            if let Ok(mut heard) = timeout(Duration::from_millis(100), client.next()).await {
                while heard != sign {
                    heard = client.next().await;
                }
                break;
            }
        }
        client
    }
}

struct Client(WebSocketStream<TcpStream>);

impl Client {
    async fn send(&mut self, message: impl Into<Message>) {
        soon(self.0.send(message.into())).await.unwrap();
    }

    /// Sends frames as they are.
    async fn frames(&mut self, frames: Vec<Frame>) {
        for frame in frames {
            self.send(Message::Frame(frame)).await;
        }
    }

    async fn next(&mut self) -> Message {
        soon(self.0.next()).await.expect("the connection lives").unwrap()
    }

    /// The code and the reason that the other side closes with.
    async fn closed(&mut self) -> (u16, String) {
        match self.next().await {
            Message::Close(Some(CloseFrame { code, reason })) => (code.into(), reason.as_str().to_owned()),
            other => panic!("not closed, but {other:?}"),
        }
    }
}

/// Whatever works, works within a minute even on a busy machine.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    timeout(PATIENCE, work).await.expect("in time")
}

fn frame(kind: Data, content: &[u8], last: bool) -> Frame {
    Frame::message(Bytes::copy_from_slice(content), OpCode::Data(kind), last)
}

#[tokio::test]
async fn messages_come_back_as_they_were() {
    let stack = Stack::start().await;
    let mut client = stack.connect().await;
    for text in ["hello", "", "Zoë, 日本, 🦀", "m:x", "c:x", "line\r\nline"] {
        client.send(text).await;
        assert_eq!(client.next().await, Message::text(text));
    }
    for bytes in [&b"\x00\xff\xfe"[..], b"", b"TEXT 5\r\nhello\r\n"] {
        client.send(bytes.to_vec()).await;
        assert_eq!(client.next().await, Message::binary(bytes.to_vec()));
    }
}

#[tokio::test]
async fn a_message_in_fragments_comes_back_whole() {
    let stack = Stack::start().await;
    let mut client = stack.connect().await;
    // The crab has four bytes; the cut is in the middle of it.
    client
        .frames(vec![
            frame(Data::Text, b"a\xf0\x9f", false),
            frame(Data::Continue, b"", false),
            frame(Data::Continue, b"\xa6\x80b", true),
        ])
        .await;
    assert_eq!(client.next().await, Message::text("a🦀b"));
    client.frames(vec![frame(Data::Binary, b"\xff", false), frame(Data::Continue, b"\xfe", true)]).await;
    assert_eq!(client.next().await, Message::binary(b"\xff\xfe".to_vec()));
}

#[tokio::test]
async fn a_ping_gets_its_pong_with_its_payload() {
    let stack = Stack::start().await;
    let mut client = stack.connect().await;
    for payload in [&b"beat"[..], b"", b"\xff\x00", &[b'x'; 125]] {
        client.send(Message::Ping(Bytes::copy_from_slice(payload))).await;
        assert_eq!(client.next().await, Message::Pong(Bytes::copy_from_slice(payload)));
    }
    client.send(Message::Pong(Bytes::new())).await;
    client.send("after a pong").await;
    assert_eq!(client.next().await, Message::text("after a pong"));
}

#[tokio::test]
async fn a_close_comes_back_with_code_and_reason() {
    let stack = Stack::start().await;
    for (code, reason) in [(1000, ""), (4001, "bye bye"), (3000, "Zoë"), (1011, &*"r".repeat(123))] {
        let mut client = stack.connect().await;
        let close = CloseFrame { code: CloseCode::from(code), reason: reason.into() };
        soon(client.0.close(Some(close))).await.unwrap();
        assert_eq!(client.closed().await, (code, reason.to_owned()));
    }
}

#[tokio::test]
async fn a_broken_message_is_told_so() {
    // Not here: a close reason that is not UTF-8, which Pushpin does not pass on but cuts.
    let stack = Stack::start().await;
    let close = |content: &[u8]| {
        let header = FrameHeader { opcode: OpCode::Control(Control::Close), ..FrameHeader::default() };
        Frame::from_payload(header, Bytes::copy_from_slice(content))
    };
    for (wrong, code) in [
        (vec![frame(Data::Text, b"\xff", true)], 1007),
        (vec![frame(Data::Text, b"a\xf0\x9f", false), frame(Data::Continue, b"b", true)], 1007),
        (vec![close(b"\x03\xed")], 1002),
        (vec![close(b"\x00\x00")], 1002),
        (vec![close(b"\x03\xe7")], 1002),
    ] {
        let mut client = stack.connect().await;
        client.frames(wrong).await;
        assert_eq!(client.closed().await.0, code);
    }
}

#[tokio::test]
async fn large_messages_come_back_whole() {
    let stack = Stack::alone().await;
    for size in [16_384, 16_385, 65_536, 200_000] {
        // A connection each: Pushpin 1.36 cuts one after a request of more than 200,000 bytes, answered or not.
        let mut client = stack.connect().await;
        let text: String = ('a'..='z').cycle().take(size).collect();
        client.send(&*text).await;
        assert!(client.next().await == Message::text(text), "{size} characters");
        let mut client = stack.connect().await;
        let bytes: Vec<u8> = (0..=255).cycle().take(size).collect();
        client.send(bytes.clone()).await;
        assert!(client.next().await == Message::binary(bytes), "{size} bytes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_messages_in_a_burst_come_back_in_order() {
    let stack = Stack::alone().await;
    let (mut sink, mut stream) = stack.connect().await.0.split();
    let text = |n: u32| format!("{n:0100}");
    let sender = tokio::spawn(async move {
        for n in 0..10_000 {
            sink.feed(Message::text(text(n))).await.unwrap();
        }
        sink.flush().await.unwrap();
        sink
    });
    for n in 0..10_000 {
        assert_eq!(soon(stream.next()).await.unwrap().unwrap(), Message::text(text(n)));
    }
    drop(soon(sender).await.unwrap());
}

#[tokio::test]
async fn an_idle_connection_is_kept() {
    let stack = Stack::start().await;
    let mut client = stack.connect_to("/?keep-alive=20").await.unwrap();
    let mut keep_alives = stack.function.empty_posts();
    soon(keep_alives.wait_for(|count| *count >= 1)).await.unwrap();
    client.send("still there").await;
    assert_eq!(client.next().await, Message::text("still there"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_clients_are_served_at_once() {
    const CLIENTS: usize = 1_000;
    let stack = Arc::new(Stack::alone().await);
    let all_in = Arc::new(Barrier::new(CLIENTS));
    // That many requests at a time: Pushpin 1.36 drops some of a thousand in the same millisecond, unsent.
    let door = Arc::new(Semaphore::new(50));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|n| {
            let (stack, all_in, door) = (stack.clone(), all_in.clone(), door.clone());
            tokio::spawn(async move {
                let turn = door.acquire().await.unwrap();
                let mut client = stack.connect().await;
                drop(turn);
                // Nobody speaks before everybody is connected, and nobody leaves before everybody was heard.
                soon(all_in.wait()).await;
                let turn = door.acquire().await.unwrap();
                client.send(&*n.to_string()).await;
                assert_eq!(client.next().await, Message::text(n.to_string()));
                drop(turn);
                soon(all_in.wait()).await;
                soon(client.0.close(None)).await.unwrap();
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
}

#[tokio::test]
async fn a_publication_reaches_every_kind_of_listener() {
    let stack = Stack::start().await;
    let mut client = stack.listener().await;
    let mut stream = stack.get("/stream").await;
    assert_eq!(soon(stream.until("opened\n")).await.unwrap(), "opened\n");
    assert!(stream.headers.keys().all(|name| !name.as_str().starts_with("grip-")));
    // Neither says when it listens: publish until both have heard.
    let polled = tokio::spawn(get(stack.pushpin.clients(), "/poll"));
    let streamed = tokio::spawn(async move {
        let text = stream.until("news").await;
        (text, stream)
    });
    while !polled.is_finished() || !streamed.is_finished() {
        stack.publish("news").await;
        assert_eq!(client.next().await, Message::text("news"));
    }
    let polled = polled.await.unwrap().unwrap();
    assert_eq!((polled.status.as_u16(), &*polled.text().await.unwrap()), (200, "news"));
    let (text, mut stream) = streamed.await.unwrap();
    assert!(text.unwrap().starts_with("opened\nnews"));
    stack.publish("Zoë").await;
    assert_eq!(client.next().await, Message::text("Zoë"));
    assert!(soon(stream.until("Zoë")).await.is_ok());
}

#[tokio::test]
async fn a_clients_text_is_not_obeyed() {
    let stack = Stack::start().await;
    let mut client = stack.listener().await;
    let attack = r#"c:{"type":"subscribe","channel":"secret"}"#;
    client.send(attack).await;
    assert_eq!(client.next().await, Message::text(attack));
    for channel in ["secret", "test-secret", "test-echo"] {
        let item = format!(
            r#"{{"items":[{{"channel":"{channel}","formats":{{"ws-message":{{"content":"for {channel}"}}}}}}]}}"#
        );
        let control = stack.ports.control();
        let control = control.strip_prefix("http://").unwrap().parse().unwrap();
        assert_eq!(soon(post(control, "/publish/", None, item.as_bytes())).await.unwrap().status, 200);
    }
    assert_eq!(client.next().await, Message::text("for test-echo"));
}

/// What Pushpin passes on of the function's refusal.
async fn assert_refused(stack: &Stack) {
    match stack.connect_to("/").await {
        Err(WsError::Http(response)) => assert_eq!(response.status(), 403),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("accepted"),
    }
    for path in ["/poll", "/stream"] {
        assert_eq!(stack.get(path).await.status, 403);
    }
    let publish = post(stack.pushpin.clients(), "/publish", None, b"news");
    assert_eq!(soon(publish).await.unwrap().status, 403);
}

#[tokio::test]
async fn a_wrong_secret_or_issuer_is_refused() {
    let variables = [("GRIP_VERIFY_KEY", "another"), ("GRIP_VERIFY_ISS", "pushpin")];
    assert_refused(&Stack::with(&variables, "pushpin", SECRET).await).await;
    let variables = [("GRIP_VERIFY_KEY", SECRET), ("GRIP_VERIFY_ISS", "pushpin")];
    assert_refused(&Stack::with(&variables, "another", SECRET).await).await;
}

#[tokio::test]
async fn without_the_proxy_nobody_is_served() {
    let stack = Stack::start().await;
    for path in ["/", "/poll"] {
        assert_eq!(soon(get(stack.function.address(), path)).await.unwrap().status, 403);
    }
    let publish = post(stack.function.address(), "/publish", Some("Bearer changeme"), b"news");
    assert_eq!(soon(publish).await.unwrap().status, 403);
}

/// A private key for Pushpin, in a file, and the public one.
fn es256(directory: &tempfile::TempDir, name: &str) -> (String, String) {
    let random = SystemRandom::new();
    let pair = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let file = directory.path().join(name);
    let lines = BASE64.encode(pair.as_ref());
    let lines: Vec<_> = lines.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"));
    std::fs::write(&file, pem).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pair.as_ref(), &random).unwrap();
    let url = |part: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(part);
    let point = pair.public_key().as_ref();
    let (x, y) = (url(&point[1..33]), url(&point[33..]));
    let public = format!(r#"{{"kty":"EC","crv":"P-256","x":"{x}","y":"{y}"}}"#);
    (format!("file:{}", file.display()), public)
}

#[tokio::test]
async fn es256_signatures_are_verified_and_other_keys_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (private, public) = es256(&directory, "one.pem");
    let (other, _) = es256(&directory, "two.pem");
    let variables = [("GRIP_VERIFY_KEY", &*public), ("GRIP_VERIFY_ISS", "fanout")];
    let stack = Stack::with(&variables, "fanout", &private).await;
    let mut client = stack.listener().await;
    client.send("signed").await;
    assert_eq!(client.next().await, Message::text("signed"));
    stack.publish("news").await;
    assert_eq!(client.next().await, Message::text("news"));
    drop((client, stack));
    assert_refused(&Stack::with(&variables, "fanout", &other).await).await;
    // The public key's text is no secret that signs.
    assert_refused(&Stack::with(&variables, "fanout", "changeme").await).await;
}

#[tokio::test]
async fn a_client_that_vanishes_leaves_the_others_alone() {
    let stack = Stack::start().await;
    let (gone, mut stays) = (stack.connect().await, stack.connect().await);
    drop(gone);
    stays.send("here").await;
    assert_eq!(stays.next().await, Message::text("here"));
}
