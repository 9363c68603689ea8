use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use http::header::{HOST, HeaderMap};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

/// An answer whose body may still be coming.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
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
    /// Reads on until the body so far ends in `end`; what it is then.
    pub async fn until(&mut self, end: &str) -> io::Result<String> {
        while !self.read.ends_with(end.as_bytes()) {
            if !self.more().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(String::from_utf8_lossy(&self.read).into_owned())
    }

    /// The whole body.
    pub async fn text(mut self) -> io::Result<String> {
        while self.more().await? {}
        Ok(String::from_utf8_lossy(&self.read).into_owned())
    }

    async fn more(&mut self) -> io::Result<bool> {
        let frame = self.body.frame().await.transpose().map_err(io::Error::other)?;
        if let Some(data) = frame.as_ref().and_then(|frame| frame.data_ref()) {
            self.read.extend_from_slice(data);
        }
        Ok(frame.is_some())
    }
}

/// Asks a loopback server, and returns as soon as it starts to answer.
pub async fn get(address: SocketAddr, path: &str) -> io::Result<Answer> {
    send(address, Request::get(path), Vec::new()).await
}

/// As [`get`], with a body and an `Authorization` if there is one.
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
