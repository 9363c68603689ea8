//! Helpers of the unit tests: the test function, and an HTTP client that sends and reads raw bytes.

use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::function::Function;

/// The program of `examples/scripted.rs`, which cargo builds together with the tests.
pub(crate) fn bootstrap() -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("examples/scripted")
}

/// A function with `instances` processes of that program.
pub(crate) async fn function(instances: usize) -> Function {
    Function::start(&bootstrap(), instances, &[]).await.unwrap()
}

/// Sends a request and returns the whole response.
pub(crate) async fn http(address: SocketAddr, head: &str, body: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let head =
        format!("{head}\r\nhost: local\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    socket.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
    let mut response = Vec::new();
    socket.read_to_end(&mut response).await.unwrap();
    response
}
