//! An HTTP/1.1 server on loopback, in a thread of its own, so that tests with and without an async runtime can use it.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

type Handler = dyn Fn(Request<Bytes>) -> Response<Bytes> + Send + Sync;

/// An HTTP/1.1 server that listens on a free port of 127.0.0.1 until the test process ends.
///
/// ```
/// use std::io::{Read as _, Write as _};
///
/// use bytes::Bytes;
/// use http::Response;
///
/// let server = postern_testing::LoopbackServer::start(|request| {
///     Response::new(Bytes::from(format!("{} {}", request.method(), request.uri())))
/// });
///
/// let mut connection = std::net::TcpStream::connect(server.address()).unwrap();
/// connection.write_all(b"GET /path HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").unwrap();
/// let mut answer = String::new();
/// connection.read_to_string(&mut answer).unwrap();
/// assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nGET /path"));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct LoopbackServer {
    address: SocketAddr,
}

impl LoopbackServer {
    /// Starts a server that answers each request, once its body is complete, with what `handler` returns.
    /// Connections are kept alive and served at the same time; calls of `handler` follow one another.
    ///
    /// # Panics
    /// When the operating system gives no listener, thread or runtime.
    pub fn start(handler: impl Fn(Request<Bytes>) -> Response<Bytes> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener on 127.0.0.1");
        listener.set_nonblocking(true).expect("a listener that does not block");
        let address = listener.local_addr().expect("the listener's address");

        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
        thread::spawn(move || runtime.block_on(serve(listener, Arc::new(handler))));

        Self { address }
    }

    /// The server's address and port.
    pub fn address(self) -> SocketAddr {
        self.address
    }

    /// The server's URL, such as `http://127.0.0.1:40001`, without a slash at the end.
    pub fn url(self) -> String {
        format!("http://{}", self.address)
    }
}

async fn serve(listener: TcpListener, handler: Arc<Handler>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a runtime with I/O");

    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let handler = Arc::clone(&handler);
        let service = service_fn(move |request| {
            let handler = Arc::clone(&handler);
            async move { Ok::<_, Infallible>(answer(request, &*handler).await) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn answer(request: Request<Incoming>, handler: &Handler) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return response;
    };

    handler(Request::from_parts(head, body.to_bytes())).map(Full::new)
}
