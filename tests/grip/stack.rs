//! A backend behind a Pushpin of its own, and what tests do with the pair.

use std::time::Duration;

use grip::{GripUrl, Item, Publisher};
use postern_pushpin::{Answer, Ports, Pushpin, Route, get};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::error::Error as WsError;

use crate::client::{Client, within_timeout};

/// Limits how many stacks run beside one another. A test of load takes all turns and runs alone.
static TURNS: Semaphore = Semaphore::const_new(ALL_TURNS as usize);

const ALL_TURNS: u32 = 8;

/// The right to run a stack.
pub(crate) type Turn = SemaphorePermit<'static>;

/// Waits for a turn beside other stacks.
pub(crate) async fn turn() -> Turn {
    TURNS.acquire().await.unwrap()
}

/// Waits until no other stack runs.
pub(crate) async fn turn_alone() -> Turn {
    TURNS.acquire_many(ALL_TURNS).await.unwrap()
}

/// A backend, and a Pushpin in front of it.
pub(crate) struct Stack<B> {
    _turn: Turn,
    pub(crate) backend: B,
    pub(crate) pushpin: Pushpin,
    publisher: Publisher,
}

impl<B> Stack<B> {
    /// Starts a Pushpin that sends requests on `route` to the backend.
    pub(crate) async fn launch(turn: Turn, ports: Ports, backend: B, route: Route) -> Self {
        let publisher = Publisher::new(&GripUrl::parse(&ports.control()).unwrap()).unwrap();
        let pushpin = Pushpin::start(ports, &[route]).await.unwrap_or_else(|error| panic!("{error}"));
        Self { _turn: turn, backend, pushpin, publisher }
    }

    pub(crate) async fn connect(&self) -> Client {
        self.connect_to("/").await.unwrap()
    }

    pub(crate) async fn connect_to(&self, path: &str) -> Result<Client, WsError> {
        let address = self.pushpin.clients();
        within_timeout(async {
            loop {
                let socket = TcpStream::connect(address).await?;
                match client_async(format!("ws://{address}{path}"), socket).await {
                    // Pushpin itself answers 502 now and then on a busy machine, without calling the backend.
                    Err(WsError::Http(response)) if response.status() == 502 => {}
                    connected => return connected.map(|(socket, _)| Client(socket)),
                }
            }
        })
        .await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        within_timeout(get(self.pushpin.clients(), path)).await.unwrap()
    }

    /// Publishes items at Pushpin's control endpoint.
    pub(crate) async fn publish(&self, items: &[Item]) {
        within_timeout(self.publisher.publish(items)).await.unwrap();
    }

    /// Publishes until the client receives a message, which it returns. Pushpin subscribes a client some time after it
    /// has connected.
    pub(crate) async fn publish_until_received(&self, client: &mut Client, items: &[Item]) -> Message {
        loop {
            self.publish(items).await;
            if let Ok(message) = timeout(Duration::from_millis(100), client.next()).await {
                return message;
            }
        }
    }

    /// Publishes until `done` is ready.
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
