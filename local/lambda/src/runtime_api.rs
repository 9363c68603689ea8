//! Lambda's Runtime API, as one process of a function sees it.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderValue, Request, Response, StatusCode};
use tokio::sync::{mpsc, oneshot};

use crate::function::{Event, FunctionError, Queue};
use crate::server::{Server, serve, status};

/// What the function is told that it has for an event. Nothing ends it then: events of tests end by themselves.
const TIME: Duration = Duration::from_mins(1);

/// Request ids, unique in this program.
static REQUESTS: AtomicU64 = AtomicU64::new(1);

/// The server, and what the process says to it.
#[derive(Debug)]
pub(crate) struct RuntimeApi {
    server: Server,
    said: mpsc::Receiver<Said>,
    asked: bool,
}

#[derive(Debug)]
enum Said {
    /// It is free: its next event is to go here.
    Next(oneshot::Sender<(String, Vec<u8>)>),
    /// Its answer to the event of this id.
    Answer(String, Result<Vec<u8>, FunctionError>),
}

impl RuntimeApi {
    pub(crate) async fn start() -> io::Result<Self> {
        let (say, said) = mpsc::channel(1);
        let server = serve(move |request| {
            let say = say.clone();
            async move { answer(&say, request).await }
        });
        Ok(Self { server: server.await?, said, asked: false })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Whether the process ever asked for an event.
    pub(crate) fn asked(&self) -> bool {
        self.asked
    }
}

/// Gives the process events for as long as it asks. Where this is dropped, the event that the process is at fails.
pub(crate) async fn work(api: &mut RuntimeApi, queue: &Queue) {
    let mut at = None;
    while let Some(said) = api.said.recv().await {
        match said {
            Said::Next(give) => {
                api.asked = true;
                // None is left when the function is dropped, and this with it.
                let Some(Event { body, answer }) = queue.lock().await.recv().await else { return };
                let id = format!("00000000-0000-4000-8000-{:012x}", REQUESTS.fetch_add(1, Ordering::Relaxed));
                if give.send((id.clone(), body)).is_ok() {
                    at = Some((id, answer));
                }
            }
            Said::Answer(id, outcome) => {
                if let Some((_, answer)) = at.take_if(|(running, _)| *running == id) {
                    // Whoever asked may have gone.
                    let _ = answer.send(outcome);
                }
            }
        }
    }
}

async fn answer(say: &mpsc::Sender<Said>, request: Request<Vec<u8>>) -> Response<Vec<u8>> {
    let path = request.uri().path().strip_prefix("/2018-06-01/runtime/").unwrap_or_default().to_owned();
    match path.split('/').collect::<Vec<_>>().as_slice() {
        ["invocation", "next"] => {
            let (give, given) = oneshot::channel();
            let _ = say.send(Said::Next(give)).await;
            given.await.map_or_else(|_| status(StatusCode::GONE), |(id, event)| next(id, event))
        }
        ["invocation", id, end @ ("response" | "error")] => {
            let body = request.into_body();
            let outcome = if *end == "response" { Ok(body) } else { Err(FunctionError(body)) };
            let _ = say.send(Said::Answer((*id).to_owned(), outcome)).await;
            status(StatusCode::ACCEPTED)
        }
        // The process ends after it, and that is what counts.
        ["init", "error"] => status(StatusCode::ACCEPTED),
        _ => status(StatusCode::NOT_FOUND),
    }
}

fn next(id: String, event: Vec<u8>) -> Response<Vec<u8>> {
    let deadline = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + TIME;
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
