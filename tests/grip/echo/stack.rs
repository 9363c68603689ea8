//! Function, proxy and clients, and what one does with them.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use postern_pushpin::{Answer, Function, Ports, Pushpin, Route, TIMEOUT, get, post};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::error::Error as WsError;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::{WebSocketStream, client_async};

/// Turns: many stacks side by side, but one alone where a test is about load.
static TURNS: Semaphore = Semaphore::const_new(ALL_TURNS as usize);

const ALL_TURNS: u32 = 8;

/// A function, and a Pushpin in front of it.
pub(crate) struct Stack {
    _turn: SemaphorePermit<'static>,
    pub(crate) function: Function,
    pub(crate) pushpin: Pushpin,
    pub(crate) ports: Ports,
}

pub(crate) const SECRET: &str = "base64:AAEC/+8gc2VjcmV0";

pub(crate) const SIGNED: [(&str, &str); 2] = [("GRIP_VERIFY_KEY", SECRET), ("GRIP_VERIFY_ISS", "pushpin")];

impl Stack {
    /// Signed with a secret, which the function wants.
    pub(crate) async fn start() -> Self {
        Self::with(&SIGNED, "pushpin", SECRET).await
    }

    /// As [`start`](Self::start), with no other beside it.
    pub(crate) async fn alone() -> Self {
        let turn = TURNS.acquire_many(ALL_TURNS).await.unwrap();
        Self::launch(turn, &SIGNED, "pushpin", SECRET).await
    }

    pub(crate) async fn with(variables: &[(&str, &str)], issuer: &str, key: &str) -> Self {
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
        let bootstrap = &postern_local::Project::here().unwrap().program("grip-echo");
        let function = Function::start(bootstrap, 2, &variables).await.unwrap();
        let route = Route::all(function.address()).signed(issuer, key);
        let pushpin = Pushpin::start(ports, &[route]).await.unwrap_or_else(|error| panic!("{error}"));
        Self { _turn: turn, function, pushpin, ports }
    }

    pub(crate) async fn connect(&self) -> Client {
        self.connect_to("/").await.unwrap()
    }

    pub(crate) async fn connect_to(&self, path: &str) -> Result<Client, WsError> {
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

    pub(crate) async fn get(&self, path: &str) -> Answer {
        soon(get(self.pushpin.clients(), path)).await.unwrap()
    }

    pub(crate) async fn publish(&self, text: &str) {
        let answer = soon(post(self.pushpin.clients(), "/publish", None, text.as_bytes())).await.unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.text().await.unwrap(), "Published\n");
    }

    /// A client that hears what is published. Pushpin subscribes it some time after it is connected.
    pub(crate) async fn listener(&self) -> Client {
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

pub(crate) struct Client(pub(crate) WebSocketStream<TcpStream>);

impl Client {
    pub(crate) async fn send(&mut self, message: impl Into<Message>) {
        soon(self.0.send(message.into())).await.unwrap();
    }

    /// Sends frames as they are.
    pub(crate) async fn frames(&mut self, frames: Vec<Frame>) {
        for frame in frames {
            self.send(Message::Frame(frame)).await;
        }
    }

    pub(crate) async fn next(&mut self) -> Message {
        soon(self.0.next()).await.expect("the connection lives").unwrap()
    }

    /// The code and the reason that the other side closes with.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        match self.next().await {
            Message::Close(Some(CloseFrame { code, reason })) => (code.into(), reason.as_str().to_owned()),
            other => panic!("not closed, but {other:?}"),
        }
    }
}

/// Whatever works, works within a minute even on a busy machine.
pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    timeout(TIMEOUT, work).await.expect("in time")
}
