//! Links that fail: a TCP proxy whose connections can be cut, and a proxy of DynamoDB that throttles.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use postern_pushpin::{Server, serve};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// A loopback port that forwards to another one, until its connections are cut.
pub(super) struct Link {
    pub(super) address: SocketAddr,
    accepting: AbortHandle,
    connections: Arc<Mutex<Vec<AbortHandle>>>,
    is_down: Arc<AtomicBool>,
}

impl Link {
    pub(super) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(Mutex::new(Vec::<AbortHandle>::new()));

        let is_down = Arc::new(AtomicBool::new(false));

        let (all, refuses) = (Arc::clone(&connections), Arc::clone(&is_down));
        let accepting = tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                if refuses.load(Ordering::SeqCst) {
                    continue;
                }
                let forwarded = tokio::spawn(async move {
                    if let Ok(mut far) = TcpStream::connect(target).await {
                        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                    }
                });
                let mut all = all.lock().unwrap();
                all.retain(|connection| !connection.is_finished());
                all.push(forwarded.abort_handle());
            }
        });
        Self { address, accepting: accepting.abort_handle(), connections, is_down }
    }

    /// Cuts all connections, and every new one until [`Self::restore`].
    pub(super) fn fail(&self) {
        self.is_down.store(true, Ordering::SeqCst);
        self.cut(&mut fastrand::Rng::with_seed(0), 100);
    }

    pub(super) fn restore(&self) {
        self.is_down.store(false, Ordering::SeqCst);
    }

    /// Cuts about `percent` of the connections, without a goodbye.
    pub(super) fn cut(&self, random: &mut fastrand::Rng, percent: u32) {
        self.connections.lock().unwrap().retain(|connection| {
            let cut = random.u32(..100) < percent;
            if cut {
                connection.abort();
            }
            !cut
        });
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut(&mut fastrand::Rng::with_seed(0), 100);
    }
}

/// A DynamoDB that refuses a part of its requests, and does another part without saying so.
pub(super) struct Throttle {
    pub(super) server: Server,
    /// How many of 100 requests fail.
    pub(super) percent: Arc<AtomicU32>,
}

impl Throttle {
    pub(super) async fn before(dynamodb: SocketAddr, seed: u64) -> Self {
        let percent = Arc::new(AtomicU32::new(0));
        let random = Arc::new(Mutex::new(fastrand::Rng::with_seed(seed)));
        let now = Arc::clone(&percent);

        let server = serve(move |request: Request<Vec<u8>>| {
            let (random, now) = (Arc::clone(&random), Arc::clone(&now));
            async move {
                let (is_hit, is_done) = {
                    let mut random = random.lock().unwrap();
                    (random.u32(..100) < now.load(Ordering::SeqCst), random.bool())
                };
                match (is_hit, is_done) {
                    (false, _) => forward(dynamodb, request).await,
                    (true, false) => throttled(),
                    // The request is done, but its caller does not learn it.
                    (true, true) => {
                        forward(dynamodb, request).await;
                        failure(500, "InternalServerError")
                    }
                }
            }
        });
        Self { server: server.await.unwrap(), percent }
    }
}

fn throttled() -> Response<Vec<u8>> {
    failure(400, "ProvisionedThroughputExceededException")
}

pub(super) fn failure(status: u16, kind: &str) -> Response<Vec<u8>> {
    let body = format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{kind}","message":"by the test"}}"#);
    let response = Response::builder().status(status).header("content-type", "application/x-amz-json-1.0");
    response.body(body.into_bytes()).unwrap()
}

pub(super) async fn forward(dynamodb: SocketAddr, request: Request<Vec<u8>>) -> Response<Vec<u8>> {
    let answer = async {
        let socket = TokioIo::new(TcpStream::connect(dynamodb).await.ok()?);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(socket).await.ok()?;
        tokio::spawn(connection);
        let request = request.map(|body| Full::new(bytes::Bytes::from(body)));
        let (parts, body) = sender.send_request(request).await.ok()?.into_parts();
        Some(Response::from_parts(parts, body.collect().await.ok()?.to_bytes().to_vec()))
    };
    answer.await.unwrap_or_else(|| failure(503, "ServiceUnavailable"))
}
