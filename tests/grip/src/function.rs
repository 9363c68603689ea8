use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::{CONTENT_TYPE, COOKIE, HeaderMap, HeaderName, HeaderValue, SET_COOKIE};
use http::{Method, Request, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot, watch};

use crate::PATIENCE;
use crate::server::{Server, serve};

/// A Lambda function behind a function URL: its `bootstrap`, the runtime API that it asks for work, and a
/// server whose requests are the work.
#[derive(Debug)]
pub struct Function {
    front: Server,
    _runtime_api: Server,
    _instances: Vec<Child>,
    empty_posts: watch::Receiver<usize>,
}

/// Why a function cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum FunctionError {
    /// No port, or no process.
    #[error("the function's {0} cannot be started: {1}")]
    Start(&'static str, io::Error),
}

/// What a function answered: JSON, or that it failed.
type Outcome = Result<Vec<u8>, ()>;

/// An event on its way, and where the answer goes.
struct Work {
    event: Vec<u8>,
    answer: oneshot::Sender<Outcome>,
}

#[derive(Default)]
struct Running {
    last_id: AtomicU64,
    answers: Mutex<HashMap<String, oneshot::Sender<Outcome>>>,
}

impl Function {
    /// Starts `instances` processes of the `bootstrap`, each with the variables given and no others of ours.
    pub async fn start(
        bootstrap: &Path,
        instances: usize,
        variables: &[(&str, &str)],
    ) -> Result<Self, FunctionError> {
        let (work, queue) = mpsc::unbounded_channel::<Work>();
        let queue = Arc::new(tokio::sync::Mutex::new(queue));
        let running = Arc::new(Running::default());
        let runtime_api = serve(move |request| {
            let (queue, running) = (Arc::clone(&queue), Arc::clone(&running));
            async move { runtime(&queue, &running, request).await }
        });
        let runtime_api = runtime_api.await.map_err(|error| FunctionError::Start("runtime API", error))?;
        let (counter, empty_posts) = watch::channel(0);
        let front = serve(move |request: Request<Vec<u8>>| {
            if request.method() == Method::POST && request.body().is_empty() {
                counter.send_modify(|count| *count += 1);
            }
            let work = work.clone();
            async move { invoke(&work, request).await }
        });
        let front = front.await.map_err(|error| FunctionError::Start("URL", error))?;
        let start = || {
            Command::new(bootstrap)
                .env_clear()
                .env("AWS_LAMBDA_RUNTIME_API", runtime_api.address().to_string())
                .env("AWS_LAMBDA_FUNCTION_NAME", "local")
                .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
                .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
                .env("AWS_LAMBDA_LOG_GROUP_NAME", "local")
                .env("AWS_LAMBDA_LOG_STREAM_NAME", "local")
                .envs(variables.iter().copied())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .kill_on_drop(true)
                .spawn()
                .map_err(|error| FunctionError::Start("bootstrap", error))
        };
        let instances = (0..instances).map(|_| start()).collect::<Result<_, _>>()?;
        Ok(Self { front, _runtime_api: runtime_api, _instances: instances, empty_posts })
    }

    /// Where its URL is.
    pub fn address(&self) -> SocketAddr {
        self.front.address()
    }

    /// How many `POST` requests without a body there were: a proxy's keep-alives.
    pub fn empty_posts(&self) -> watch::Receiver<usize> {
        self.empty_posts.clone()
    }
}

/// The runtime API, as a function sees it.
async fn runtime(
    queue: &tokio::sync::Mutex<mpsc::UnboundedReceiver<Work>>,
    running: &Running,
    request: Request<Vec<u8>>,
) -> Response<Vec<u8>> {
    let path = request.uri().path().strip_prefix("/2018-06-01/runtime/").unwrap_or_default();
    let answers = || running.answers.lock().unwrap_or_else(PoisonError::into_inner);
    match path.split('/').collect::<Vec<_>>().as_slice() {
        ["invocation", "next"] => {
            let Some(work) = queue.lock().await.recv().await else {
                // Nothing will come any more, and whoever asked is about to be ended.
                return std::future::pending().await;
            };
            let id = running.last_id.fetch_add(1, Ordering::Relaxed);
            let id = format!("00000000-0000-4000-8000-{id:012x}");
            answers().insert(id.clone(), work.answer);
            let deadline = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + PATIENCE;
            let mut response = Response::new(work.event);
            for (name, value) in [
                ("lambda-runtime-aws-request-id", id),
                ("lambda-runtime-deadline-ms", deadline.as_millis().to_string()),
                (
                    "lambda-runtime-invoked-function-arn",
                    "arn:aws:lambda:local:000000000000:function:local".to_owned(),
                ),
                ("content-type", "application/json".to_owned()),
            ] {
                if let Ok(value) = HeaderValue::try_from(value) {
                    response.headers_mut().insert(name, value);
                }
            }
            response
        }
        ["invocation", id, end @ ("response" | "error")] => {
            let answer = answers().remove(*id);
            if let Some(answer) = answer {
                let outcome = if *end == "response" { Ok(request.into_body()) } else { Err(()) };
                // Whoever asked may have gone.
                let _ = answer.send(outcome);
            }
            status(StatusCode::ACCEPTED)
        }
        ["init", "error"] => status(StatusCode::ACCEPTED),
        _ => status(StatusCode::NOT_FOUND),
    }
}

/// The function URL: a request becomes an event, and what comes back a response. A failed function is a 502.
async fn invoke(work: &mpsc::UnboundedSender<Work>, request: Request<Vec<u8>>) -> Response<Vec<u8>> {
    let (answer, outcome) = oneshot::channel();
    let event = event(&request).to_string().into_bytes();
    if work.send(Work { event, answer }).is_err() {
        return status(StatusCode::BAD_GATEWAY);
    }
    match outcome.await {
        Ok(Ok(json)) => response(&json).unwrap_or_else(|| status(StatusCode::BAD_GATEWAY)),
        _ => status(StatusCode::BAD_GATEWAY),
    }
}

/// Payload format 2.0, as a function URL makes it of a request.
fn event(request: &Request<Vec<u8>>) -> Value {
    let mut headers = Map::new();
    for name in request.headers().keys().filter(|name| **name != COOKIE) {
        let values = request.headers().get_all(name).iter();
        let values: Vec<_> = values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        headers.insert(name.to_string(), values.join(",").into());
    }
    let path = request.uri().path();
    let mut event = json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": request.uri().query().unwrap_or_default(),
        "headers": headers,
        "requestContext": {
            "accountId": "anonymous", "apiId": "local", "domainName": "local.lambda-url.local.on.aws",
            "domainPrefix": "local",
            "http": {"method": request.method().as_str(), "path": path, "protocol": "HTTP/1.1",
                "sourceIp": "127.0.0.1", "userAgent": "local"},
            "requestId": "local", "routeKey": "$default", "stage": "$default",
            "time": "01/Jan/1970:00:00:00 +0000", "timeEpoch": 0,
        },
        "isBase64Encoded": false,
    });
    let cookies = request.headers().get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let cookies: Vec<_> = cookies.flat_map(|cookies| cookies.split("; ")).collect();
    if !cookies.is_empty() {
        event["cookies"] = json!(cookies);
    }
    if !request.body().is_empty() {
        match std::str::from_utf8(request.body()) {
            Ok(text) if is_text(request.headers()) => event["body"] = json!(text),
            _ => {
                event["body"] = json!(BASE64.encode(request.body()));
                event["isBase64Encoded"] = json!(true);
            }
        }
    }
    event
}

/// What a function URL passes on as text: `text/*`, JSON, XML and JavaScript.
fn is_text(headers: &HeaderMap) -> bool {
    let kind =
        headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("application/octet-stream");
    ["text/", "application/json", "application/xml", "application/javascript"]
        .iter()
        .any(|text| kind.starts_with(text))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    status_code: u16,
    #[serde(default)]
    headers: HashMap<String, String>,
    #[serde(default)]
    cookies: Vec<String>,
    body: Option<String>,
    #[serde(default)]
    is_base64_encoded: bool,
}

fn response(json: &[u8]) -> Option<Response<Vec<u8>>> {
    let answer: Answer = serde_json::from_slice(json).ok()?;
    let body = answer.body.unwrap_or_default();
    let body = if answer.is_base64_encoded { BASE64.decode(body).ok()? } else { body.into_bytes() };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(answer.status_code).ok()?;
    for (name, value) in answer.headers {
        response.headers_mut().insert(HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?);
    }
    for cookie in answer.cookies {
        response.headers_mut().append(SET_COOKIE, HeaderValue::try_from(cookie).ok()?);
    }
    Some(response)
}

fn status(status: StatusCode) -> Response<Vec<u8>> {
    let mut response = Response::default();
    *response.status_mut() = status;
    response
}
