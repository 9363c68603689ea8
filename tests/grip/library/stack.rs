//! A function, a proxy and its clients.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use grip::{GripUrl, Item, Publisher, WebSocket};
use http::{Request, Response};
use postern_pushpin::{Answer, Ports, Pushpin, Route, Server, TIMEOUT, get, serve};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

/// A function behind a Pushpin, and whoever publishes.
pub(crate) struct Stack {
    _server: Server,
    pushpin: Pushpin,
    publisher: Publisher,
}

impl Stack {
    pub(crate) async fn start(
        function: impl Fn(&Request<Vec<u8>>) -> Response<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        let ports = Ports::free().unwrap();
        let function = Arc::new(function);
        let server = serve(move |request: Request<Vec<u8>>| {
            let function = Arc::clone(&function);
            async move { function(&request) }
        });
        let server = server.await.unwrap();
        let pushpin = Pushpin::start(ports, &[Route::all(server.address())]).await;
        let pushpin = pushpin.unwrap_or_else(|error| panic!("{error}"));
        let publisher = Publisher::new(&GripUrl::parse(&ports.control()).unwrap()).unwrap();
        Self { _server: server, pushpin, publisher }
    }

    pub(crate) fn clients(&self) -> SocketAddr {
        self.pushpin.clients()
    }

    pub(crate) async fn connect(&self) -> Client {
        let address = self.clients();
        let socket = soon(TcpStream::connect(address)).await.unwrap();
        Client(soon(client_async(format!("ws://{address}/"), socket)).await.unwrap().0)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        soon(get(self.clients(), path)).await.unwrap()
    }

    pub(crate) async fn publish(&self, items: &[Item]) {
        soon(self.publisher.publish(items)).await.unwrap();
    }

    /// Publishes until the client hears something. Pushpin subscribes it some time after it is connected.
    pub(crate) async fn heard(&self, client: &mut Client, items: &[Item]) -> Message {
        loop {
            self.publish(items).await;
            if let Ok(heard) = timeout(Duration::from_millis(100), client.next()).await {
                return heard;
            }
        }
    }

    /// Publishes until something else is done.
    pub(crate) async fn publish_until<T>(&self, items: &[Item], done: impl Future<Output = T>) -> T {
        let mut done = std::pin::pin!(done);
        loop {
            self.publish(items).await;
            if let Ok(done) = timeout(Duration::from_millis(20), &mut done).await {
                return done;
            }
        }
    }
}

/// A function that lets every client in, and answers each text of theirs; `open` is the first.
pub(crate) fn answering(
    answer: impl Fn(&mut WebSocket<'_>, &str) + Send + Sync + 'static,
) -> impl Fn(&Request<Vec<u8>>) -> Response<Vec<u8>> + Send + Sync + 'static {
    move |request| {
        let mut ws = match WebSocket::read(request) {
            Ok(ws) => ws,
            Err(error) => return error.to_response(),
        };
        if ws.is_opening() {
            ws.accept();
            answer(&mut ws, "open");
        }
        while let Some(message) = ws.recv() {
            if let grip::Message::Text(text) = message {
                answer(&mut ws, text);
            }
        }
        ws.to_response()
    }
}

pub(crate) struct Client(pub(crate) WebSocketStream<TcpStream>);

impl Client {
    pub(crate) async fn say(&mut self, text: &str) {
        soon(self.0.send(text.into())).await.unwrap();
    }

    pub(crate) async fn next(&mut self) -> Message {
        soon(self.0.next()).await.expect("the connection lives").unwrap()
    }

    /// The code and the reason that the other side closes with.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        match self.next().await {
            Message::Close(Some(close)) => (close.code.into(), close.reason.as_str().to_owned()),
            other => panic!("not closed, but {other:?}"),
        }
    }
}

/// Whatever works, works within a minute even on a busy machine.
pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    timeout(TIMEOUT, work).await.expect("in time")
}
