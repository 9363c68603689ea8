//! An HTTP/1.1 server on loopback with an async handler.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};

/// An HTTP server on a free loopback port. It ends when it is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    task: AbortHandle,
}

impl Server {
    /// The address that the server listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves `handler` on a free loopback port.
pub async fn serve<H>(handler: H) -> io::Result<Server>
where
    H: AsyncHandler,
{
    // Port 0: the system chooses a free port.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let handler = Arc::new(handler);

    let task = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    // An accept fails, for example, while no file descriptor is free. Later ones may succeed.
                    let Ok((socket, _)) = accepted else { continue };
                    let handler = Arc::clone(&handler);
                    connections.spawn(async move {
                        let service = service_fn(|request| answer(&*handler, request));
                        let _ = socket.set_nodelay(true);
                        // A client that disconnects early is not an error of the server.
                        let _ = http1::Builder::new()
                            .timer(TokioTimer::new())
                            .serve_connection(TokioIo::new(socket), service)
                            .await;
                    });
                }
                Some(_) = connections.join_next() => {}
            }
        }
    });
    Ok(Server { address, task: task.abort_handle() })
}

/// A handler of HTTP requests.
pub trait AsyncHandler: Send + Sync + 'static {
    /// The response to a request.
    fn handle(&self, request: Request<Vec<u8>>) -> impl Future<Output = Response<Vec<u8>>> + Send;
}

impl<F, A> AsyncHandler for F
where
    F: Fn(Request<Vec<u8>>) -> A + Send + Sync + 'static,
    A: Future<Output = Response<Vec<u8>>> + Send,
{
    fn handle(&self, request: Request<Vec<u8>>) -> impl Future<Output = Response<Vec<u8>>> + Send {
        self(request)
    }
}

async fn answer<H: AsyncHandler>(
    handler: &H,
    request: Request<hyper::body::Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();

    let response = match body.collect().await {
        Ok(body) => handler.handle(Request::from_parts(parts, body.to_bytes().to_vec())).await,
        Err(_) => status(StatusCode::BAD_REQUEST),
    };
    Ok(response.map(|body| Full::new(body.into())))
}

/// An empty response with this status.
pub(crate) fn status(status: StatusCode) -> Response<Vec<u8>> {
    let mut response = Response::default();
    *response.status_mut() = status;
    response
}
