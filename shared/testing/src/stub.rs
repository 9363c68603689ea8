//! A stand-in for an AWS service whose protocol is JSON over HTTP.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Request, Response};

use crate::server::LoopbackServer;

/// A request that a [`StubServer`] received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedRequest {
    /// The request line and the header lines, in lower case, each ended by a line break.
    pub head: String,
    /// The body.
    pub body: String,
}

/// A stand-in for an AWS service: it gives every request the same answer and records the requests.
#[derive(Debug)]
pub struct StubServer {
    server: LoopbackServer,
    requests: Arc<Mutex<Vec<RecordedRequest>>>,
}

impl StubServer {
    /// Starts a service that answers with this HTTP status and AWS error code. An empty code is a success, whose body
    /// is `{}`.
    ///
    /// # Panics
    /// When the server cannot start, or when `status` is not an HTTP status.
    pub fn answering(status: u16, code: &'static str) -> Self {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let recorded = Arc::clone(&requests);
        let server = LoopbackServer::start(move |request| {
            recorded.lock().unwrap_or_else(PoisonError::into_inner).push(record(&request));
            answer(status, code)
        });
        Self { server, requests }
    }

    /// The server's URL.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// The requests so far, in the order of their arrival.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn record(request: &Request<Bytes>) -> RecordedRequest {
    let mut head = format!("{} {} {:?}\n", request.method(), request.uri(), request.version());
    for (name, value) in request.headers() {
        let _ = writeln!(head, "{name}: {}", String::from_utf8_lossy(value.as_bytes()));
    }
    let body = String::from_utf8_lossy(request.body()).into_owned();
    RecordedRequest { head: head.to_lowercase(), body }
}

fn answer(status: u16, code: &'static str) -> Response<Bytes> {
    let response = Response::builder().status(status).header("content-type", "application/json");
    let response = if code.is_empty() {
        response.body(Bytes::from_static(b"{}"))
    } else {
        let body = format!(r#"{{"__type":"{code}","message":"no"}}"#);
        response.header("x-amzn-errortype", code).body(Bytes::from(body))
    };
    response.expect("a status of HTTP and a code that a header can hold")
}
