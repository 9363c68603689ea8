//! A WebSocket client whose every step is limited in time.

use futures_util::{SinkExt as _, StreamExt as _};
use postern_pushpin::TIMEOUT;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;

/// A connected WebSocket client.
pub(crate) struct Client(pub(crate) WebSocketStream<TcpStream>);

impl Client {
    pub(crate) async fn send(&mut self, message: impl Into<Message>) {
        within_timeout(self.0.send(message.into())).await.unwrap();
    }

    /// Sends frames as they are, even if they violate the protocol.
    pub(crate) async fn send_frames(&mut self, frames: Vec<Frame>) {
        for frame in frames {
            self.send(Message::Frame(frame)).await;
        }
    }

    /// Receives the next message.
    pub(crate) async fn next(&mut self) -> Message {
        within_timeout(self.0.next()).await.expect("the connection ended").unwrap()
    }

    /// Receives messages until `expected` arrives.
    pub(crate) async fn skip_to(&mut self, expected: &Message) {
        while self.next().await != *expected {}
    }

    /// Receives a close, and returns its code and its reason.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        match self.next().await {
            Message::Close(Some(CloseFrame { code, reason })) => (code.into(), reason.as_str().to_owned()),
            other => panic!("expected a close, received {other:?}"),
        }
    }
}

/// Waits for `work`, and panics after a time that is long enough even on a busy machine.
pub(crate) async fn within_timeout<T>(work: impl Future<Output = T>) -> T {
    timeout(TIMEOUT, work).await.expect("the timeout passed")
}
