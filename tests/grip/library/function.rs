//! A stack whose backend is a handler in this process.

use std::net::SocketAddr;
use std::sync::Arc;

use grip::WebSocket;
use http::{Request, Response};
use postern_pushpin::{Ports, Route, Server, serve};

use crate::stack::{self, turn};

pub(crate) type Stack = stack::Stack<Server>;

impl Stack {
    pub(crate) async fn start(
        function: impl Fn(&Request<Vec<u8>>) -> Response<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        let turn = turn().await;
        let function = Arc::new(function);
        let server = serve(move |request: Request<Vec<u8>>| {
            let function = Arc::clone(&function);
            async move { function(&request) }
        });

        let server = server.await.unwrap();
        let route = Route::all(server.address());
        Self::launch(turn, Ports::free().unwrap(), server, route).await
    }

    pub(crate) fn clients(&self) -> SocketAddr {
        self.pushpin.clients()
    }
}

/// A handler that accepts every client and calls `answer` with each of its texts. The first call is for the opening,
/// with the text `open`.
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
