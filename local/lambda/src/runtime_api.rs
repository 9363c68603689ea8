//! Lambda's Runtime API for one process of a function.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderValue, Request, Response, StatusCode};
use tokio::sync::{mpsc, oneshot};

use crate::queue::{Event, FunctionError, Queue};
use crate::server::{Server, serve, status};

/// The time limit of an event that the function is informed of. This crate does not enforce it.
const TIMEOUT: Duration = Duration::from_mins(1);

/// The next request id, unique in this program.
static REQUESTS: AtomicU64 = AtomicU64::new(1);

/// The server, and the calls that the process makes to it.
#[derive(Debug)]
pub(crate) struct RuntimeApi {
    server: Server,
    calls: mpsc::Receiver<Call>,
    has_polled: bool,
}

#[derive(Debug)]
enum Call {
    /// The process polls for its next event, which goes into this channel.
    Next(oneshot::Sender<(String, Vec<u8>)>),
    /// The process responds to the event with this id.
    Respond(String, Result<Vec<u8>, FunctionError>),
}

impl RuntimeApi {
    pub(crate) async fn start() -> io::Result<Self> {
        let (call, calls) = mpsc::channel(1);
        let server = serve(move |request| {
            let call = call.clone();
            async move { answer(&call, request).await }
        });
        Ok(Self { server: server.await?, calls, has_polled: false })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Whether the process has polled for an event.
    pub(crate) fn has_polled(&self) -> bool {
        self.has_polled
    }
}

/// Gives events to the process as long as it polls. If this future is dropped, the current event fails.
pub(crate) async fn work(api: &mut RuntimeApi, queue: &Queue) {
    let mut current = None;

    while let Some(call) = api.calls.recv().await {
        match call {
            Call::Next(give) => {
                api.has_polled = true;
                // The queue ends when the function is dropped.
                let Some(Event { body, response }) = queue.lock().await.recv().await else { return };
                let id = format!("00000000-0000-4000-8000-{:012x}", REQUESTS.fetch_add(1, Ordering::Relaxed));
                if give.send((id.clone(), body)).is_ok() {
                    current = Some((id, response));
                }
            }
            Call::Respond(id, result) => {
                if let Some((_, response)) = current.take_if(|(running, _)| *running == id) {
                    // The caller may have disconnected.
                    let _ = response.send(result);
                }
            }
        }
    }
}

async fn answer(calls: &mpsc::Sender<Call>, request: Request<Vec<u8>>) -> Response<Vec<u8>> {
    let path = request.uri().path().strip_prefix("/2018-06-01/runtime/").unwrap_or_default().to_owned();
    match path.split('/').collect::<Vec<_>>().as_slice() {
        ["invocation", "next"] => {
            let (give, given) = oneshot::channel();
            let _ = calls.send(Call::Next(give)).await;
            given.await.map_or_else(|_| status(StatusCode::GONE), |(id, event)| next(id, event))
        }
        ["invocation", id, end @ ("response" | "error")] => {
            let body = request.into_body();
            let result = if *end == "response" { Ok(body) } else { Err(FunctionError(body)) };
            let _ = calls.send(Call::Respond((*id).to_owned(), result)).await;
            status(StatusCode::ACCEPTED)
        }
        // The process ends after this call, and its end fails the event.
        ["init", "error"] => status(StatusCode::ACCEPTED),
        _ => status(StatusCode::NOT_FOUND),
    }
}

fn next(id: String, event: Vec<u8>) -> Response<Vec<u8>> {
    let deadline = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + TIMEOUT;

    let mut response = Response::new(event);
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    headers.insert(
        "lambda-runtime-invoked-function-arn",
        HeaderValue::from_static("arn:aws:lambda:us-east-1:000000000000:function:local"),
    );
    for (name, value) in [
        ("lambda-runtime-aws-request-id", id),
        ("lambda-runtime-deadline-ms", deadline.as_millis().to_string()),
    ] {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
    response
}
