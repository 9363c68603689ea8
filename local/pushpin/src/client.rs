//! A small HTTP client for loopback servers that can read a response while it is still being sent.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderMap};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

/// The time limit of every wait. It is long enough for a busy machine.
pub const TIMEOUT: Duration = Duration::from_mins(1);

/// A response whose body may still be arriving. Dropping it closes the connection.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    body: Incoming,
    read: Vec<u8>,
    connection: AbortHandle,
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Answer {
    /// Reads until the body received so far ends with `end`, and returns that body.
    pub async fn until(&mut self, end: &str) -> io::Result<String> {
        while !self.read.ends_with(end.as_bytes()) {
            if !self.more().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(String::from_utf8_lossy(&self.read).into_owned())
    }

    /// Reads the whole body.
    pub async fn text(mut self) -> io::Result<String> {
        while self.more().await? {}
        Ok(String::from_utf8_lossy(&self.read).into_owned())
    }

    /// Reads the next part of the body. Returns false at its end.
    async fn more(&mut self) -> io::Result<bool> {
        let frame = self.body.frame().await.transpose().map_err(io::Error::other)?;
        if let Some(data) = frame.as_ref().and_then(|frame| frame.data_ref()) {
            self.read.extend_from_slice(data);
        }
        Ok(frame.is_some())
    }
}

/// Sends a `GET` request to a loopback server. Returns when the response's headers have arrived.
pub async fn get(address: SocketAddr, path: &str) -> io::Result<Answer> {
    send(address, Request::get(path), Vec::new()).await
}

/// Sends a `POST` request with a body and, if given, a value of `Authorization`. Returns as [`get`] does.
pub async fn post(
    address: SocketAddr,
    path: &str,
    authorization: Option<&str>,
    body: &[u8],
) -> io::Result<Answer> {
    let mut request = Request::post(path).header("content-type", "text/plain");
    if let Some(authorization) = authorization {
        request = request.header("authorization", authorization);
    }
    send(address, request, body.to_vec()).await
}

async fn send(address: SocketAddr, request: http::request::Builder, body: Vec<u8>) -> io::Result<Answer> {
    let request = request.header(HOST, address.to_string()).body(Full::new(Bytes::from(body)));
    let request = request.map_err(io::Error::other)?;

    let socket = TokioIo::new(TcpStream::connect(address).await?);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(socket).await.map_err(io::Error::other)?;
    let connection = tokio::spawn(connection).abort_handle();

    let response = sender.send_request(request).await.map_err(io::Error::other)?;
    let (parts, body) = response.into_parts();
    Ok(Answer { status: parts.status, headers: parts.headers, body, read: Vec::new(), connection })
}
