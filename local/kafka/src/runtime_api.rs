//! Lambda for one function on this machine: runs the function's binary, speaks the Runtime API to it, and the Invoke
//! API to the outside. One instance; one that dies fails its invocation, and is started anew.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot, watch};

/// What a function answers: its body, and whether it is an error.
type Answer = (Bytes, bool);

/// An invocation that waits for the function.
struct Invocation {
    event: Bytes,
    answer: oneshot::Sender<Answer>,
}

/// The function, its process, and what it is at.
pub struct Runtime {
    shared: Arc<Shared>,
    /// Where functions are invoked, `http://host:port`.
    pub endpoint: String,
    kill: watch::Sender<u64>,
}

struct Shared {
    invocations: tokio::sync::Mutex<mpsc::Receiver<Invocation>>,
    invoke: mpsc::Sender<Invocation>,
    now: Mutex<Now>,
    generation: watch::Sender<u64>,
}

#[derive(Default)]
struct Now {
    requests: u64,
    generation: u64,
    pid: Option<u32>,
    /// What the process works on: its request id, and who waits for it.
    running: Option<(String, oneshot::Sender<Answer>)>,
}

impl Shared {
    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn exited() -> Answer {
    (
        Bytes::from_static(
            br#"{"errorType":"Runtime.ExitError","errorMessage":"the function's process ended"}"#,
        ),
        true,
    )
}

impl Runtime {
    /// Serves both APIs on a free port, and runs `binary` with `environment` (and nothing of ours) until dropped. What
    /// it prints, its log and its metrics, goes to the file `log`, or nowhere.
    pub async fn start(
        binary: PathBuf,
        environment: BTreeMap<String, String>,
        log: Option<&Path>,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let (invoke, invocations) = mpsc::channel(64);
        let shared = Arc::new(Shared {
            invocations: tokio::sync::Mutex::new(invocations),
            invoke,
            now: Mutex::default(),
            generation: watch::Sender::new(0),
        });
        let (kill, killed) = watch::channel(0);
        tokio::spawn(serve(listener, Arc::clone(&shared)));
        let mut command = Command::new(binary);
        command.env_clear().envs(environment).env("AWS_LAMBDA_RUNTIME_API", &address).kill_on_drop(true);
        command.stdout(match log {
            Some(path) => Stdio::from(File::create(path)?),
            None => Stdio::null(),
        });
        for (name, value) in [
            ("AWS_LAMBDA_FUNCTION_NAME", "msk-to-s3"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
            ("AWS_LAMBDA_LOG_GROUP_NAME", "local"),
            ("AWS_LAMBDA_LOG_STREAM_NAME", "local"),
        ] {
            command.env(name, value);
        }
        // Not needed once the first process is there; failing now is failing where it is seen.
        let first = spawn(&mut command, &shared)?;
        tokio::spawn(supervise(first, command, Arc::clone(&shared), killed));
        Ok(Self { shared, endpoint: format!("http://{address}"), kill })
    }

    /// The process that runs the function now.
    pub fn pid(&self) -> Option<u32> {
        self.shared.now().pid
    }

    /// Kills the process, whatever it is at.
    pub fn kill(&self) {
        self.kill.send_modify(|times| *times += 1);
    }
}

fn spawn(command: &mut Command, shared: &Shared) -> std::io::Result<Child> {
    let child = command.spawn()?;
    shared.now().pid = child.id();
    Ok(child)
}

async fn supervise(
    mut child: Child,
    mut command: Command,
    shared: Arc<Shared>,
    mut killed: watch::Receiver<u64>,
) {
    loop {
        tokio::select! {
            _ = child.wait() => {}
            killed = killed.changed() => match killed {
                Ok(()) => {
                    // One that has ended already cannot be killed, and is what was wanted.
                    let _ = child.kill().await;
                }
                // Nobody has the runtime any more: the child is killed as it is dropped.
                Err(_) => return,
            },
        }
        let mut now = shared.now();
        now.pid = None;
        now.generation += 1;
        // Whoever asked for an event in the dead process's name is sent away.
        shared.generation.send_replace(now.generation);
        if let Some((_, answer)) = now.running.take() {
            let _ = answer.send(exited());
        }
        drop(now);
        match spawn(&mut command, &shared) {
            Ok(next) => child = next,
            Err(error) => return tracing::error!(%error, "the function does not start"),
        }
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let shared = Arc::clone(&shared);
        let service = service_fn(move |request| {
            let shared = Arc::clone(&shared);
            async move { Ok::<_, Infallible>(answer(&shared, request).await) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn answer(shared: &Shared, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    match segments.as_slice() {
        ["2015-03-31", "functions", _, "invocations"] => invoked(shared, request).await,
        ["2018-06-01", "runtime", "invocation", "next"] => next(shared).await,
        ["2018-06-01", "runtime", "invocation", id, outcome] => {
            let Ok(body) = request.into_body().collect().await else { return status(400) };
            let mut now = shared.now();
            match now.running.take() {
                Some((running, answer)) if running == *id => {
                    let _ = answer.send((body.to_bytes(), *outcome == "error"));
                    status(202)
                }
                other => {
                    now.running = other;
                    status(403)
                }
            }
        }
        ["2018-06-01", "runtime", "init", "error"] => status(202),
        _ => status(404),
    }
}

async fn invoked(shared: &Shared, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let Ok(event) = request.into_body().collect().await else { return status(400) };
    let (answer, answered) = oneshot::channel();
    if shared.invoke.send(Invocation { event: event.to_bytes(), answer }).await.is_err() {
        return status(500);
    }
    let (body, error) = answered.await.unwrap_or_else(|_| exited());
    let mut response = Response::new(Full::new(body));
    if error {
        response
            .headers_mut()
            .insert("x-amz-function-error", hyper::header::HeaderValue::from_static("Unhandled"));
    }
    response
}

/// Gives the function its next event, once there is one.
async fn next(shared: &Shared) -> Response<Full<Bytes>> {
    let mut generation = shared.generation.subscribe();
    let mine = *generation.borrow_and_update();
    let mut invocations = shared.invocations.lock().await;
    let Invocation { event, answer } = tokio::select! {
        invocation = invocations.recv() => match invocation {
            Some(invocation) => invocation,
            None => return status(500),
        },
        _ = generation.changed() => return status(410),
    };
    let mut now = shared.now();
    if now.generation != mine {
        let _ = answer.send(exited());
        return status(410);
    }
    now.requests += 1;
    let id = format!("00000000-0000-4000-8000-{:012}", now.requests);
    now.running = Some((id.clone(), answer));
    let deadline = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let mut response = Response::new(Full::new(event));
    for (name, value) in [
        ("lambda-runtime-aws-request-id", id),
        ("lambda-runtime-deadline-ms", (deadline.as_millis() + 60_000).to_string()),
        (
            "lambda-runtime-invoked-function-arn",
            "arn:aws:lambda:eu-west-1:123456789012:function:msk-to-s3".into(),
        ),
    ] {
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn status(code: u16) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = hyper::StatusCode::from_u16(code).unwrap_or_default();
    response
}
