//! A bucket that answers with faults: a proxy of ours, before an emulator or before a map in memory.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use postern_kafka_poller::broker::free_port;
use postern_kafka_poller::customers::Numbers;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// Where objects are kept.
enum Store {
    /// What S3 does with a put that must not overwrite, a list and a get.
    Memory(Mutex<BTreeMap<String, Bytes>>),
    /// An emulator.
    Emulator { http: Box<Client<HttpConnector, Full<Bytes>>>, address: String, _process: Child },
}

/// How often S3 answered how.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) refused: AtomicU64,
    pub(crate) stored_unsaid: AtomicU64,
    pub(crate) existed: AtomicU64,
}

pub(crate) struct S3 {
    store: Store,
    faults: Option<Mutex<Numbers>>,
    pub(crate) counts: Counts,
    puts: watch::Sender<u64>,
}

/// What becomes of a put.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// 503, and nothing is stored.
    Refused,
    /// It is stored, and the answer is 503.
    StoredUnsaid,
    /// It is stored, and the answer is 412: what a retry sees whose first attempt's answer was lost.
    StoredBefore,
}

impl S3 {
    /// Starts S3, with faults from a seed or without any. `ministack` is the emulator's program.
    pub(crate) async fn start(ministack: Option<&Path>, faults: Option<u64>) -> (Arc<Self>, String) {
        let store = match ministack {
            None => Store::Memory(Mutex::default()),
            Some(program) => emulator(program),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let s3 = Arc::new(Self {
            store,
            faults: faults.map(|seed| Mutex::new(Numbers::new(seed))),
            counts: Counts::default(),
            puts: watch::Sender::new(0),
        });
        let shared = Arc::clone(&s3);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let s3 = Arc::clone(&shared);
                let service = service_fn(move |request| {
                    let s3 = Arc::clone(&s3);
                    async move { Ok::<_, Infallible>(s3.answer(request).await) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        (s3, endpoint)
    }

    pub(crate) fn name(&self) -> &'static str {
        match self.store {
            Store::Memory(_) => "a map in memory",
            Store::Emulator { .. } => "ministack",
        }
    }

    /// Notes every put that arrives.
    pub(crate) fn puts(&self) -> watch::Receiver<u64> {
        self.puts.subscribe()
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let Ok(body) = body.collect().await else { return answer(400, "IncompleteBody") };
        let object = head.uri.path().trim_matches('/').contains('/');
        if head.method != Method::PUT || !object {
            return self.pass(Request::from_parts(head, body.to_bytes())).await;
        }
        self.puts.send_modify(|puts| *puts += 1);
        let fault = self.fault();
        if fault == Fault::Refused {
            self.counts.refused.fetch_add(1, Ordering::Relaxed);
            return answer(503, "SlowDown");
        }
        let stored = self.pass(Request::from_parts(head, body.to_bytes())).await;
        if stored.status() == StatusCode::PRECONDITION_FAILED {
            self.counts.existed.fetch_add(1, Ordering::Relaxed);
        } else if fault != Fault::None && stored.status().is_success() {
            self.counts.stored_unsaid.fetch_add(1, Ordering::Relaxed);
            return match fault {
                Fault::StoredBefore => answer(412, "PreconditionFailed"),
                _ => answer(503, "ServiceUnavailable"),
            };
        }
        stored
    }

    fn fault(&self) -> Fault {
        let draw = self.faults.as_ref().map(|numbers| numbers.lock().unwrap().below(100));
        match draw {
            Some(0..20) => Fault::Refused,
            Some(20..30) => Fault::StoredUnsaid,
            Some(30..40) => Fault::StoredBefore,
            _ => Fault::None,
        }
    }

    async fn pass(&self, request: Request<Bytes>) -> Response<Full<Bytes>> {
        match &self.store {
            Store::Memory(objects) => in_memory(&mut objects.lock().unwrap(), &request),
            Store::Emulator { http, address, .. } => {
                let (mut head, body) = request.into_parts();
                let path = head.uri.path_and_query().unwrap().as_str();
                head.uri = format!("http://{address}{path}").parse().unwrap();
                let Ok(response) = http.request(Request::from_parts(head, Full::from(body))).await else {
                    return answer(503, "ServiceUnavailable");
                };
                let (head, body) = response.into_parts();
                Response::from_parts(head, Full::from(body.collect().await.unwrap().to_bytes()))
            }
        }
    }
}

fn in_memory(objects: &mut BTreeMap<String, Bytes>, request: &Request<Bytes>) -> Response<Full<Bytes>> {
    let path = request.uri().path().trim_start_matches('/');
    let query = request.uri().query().unwrap_or_default();
    match (request.method(), path.split_once('/')) {
        (&Method::PUT, None | Some((_, ""))) => answer(200, ""),
        (&Method::PUT, Some((_, key))) => {
            assert_eq!(request.headers().get("if-none-match").unwrap(), "*");
            if objects.contains_key(key) {
                return answer(412, "PreconditionFailed");
            }
            objects.insert(key.to_owned(), request.body().clone());
            answer(200, "")
        }
        (&Method::GET, None | Some((_, ""))) => {
            let prefix = query.split('&').find_map(|part| part.strip_prefix("prefix=")).unwrap_or_default();
            let prefix = prefix.replace("%2F", "/");
            let found = objects.keys().filter(|key| key.starts_with(&prefix));
            let keys: Vec<String> =
                found.map(|key| format!("<Contents><Key>{key}</Key></Contents>")).collect();
            let keys = keys.concat();
            Response::new(Full::from(format!("<ListBucketResult>{keys}</ListBucketResult>")))
        }
        (&Method::GET, Some((_, key))) => match objects.get(key) {
            Some(object) => Response::new(Full::new(object.clone())),
            None => answer(404, "NoSuchKey"),
        },
        _ => answer(501, "NotImplemented"),
    }
}

fn answer(status: u16, code: &str) -> Response<Full<Bytes>> {
    let body = if code.is_empty() { String::new() } else { format!("<Error><Code>{code}</Code></Error>") };
    Response::builder().status(status).body(Full::from(body)).unwrap()
}

fn emulator(program: &Path) -> Store {
    let port = free_port().unwrap();
    let process = Command::new(program)
        .env("GATEWAY_PORT", port.to_string())
        .env("BIND_HOST", "127.0.0.1")
        .env("IOT_MTLS_ENABLED", "0")
        .env("SFTP_ENABLED", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let http = Client::builder(TokioExecutor::new()).build_http();
    Store::Emulator { http: Box::new(http), address: format!("127.0.0.1:{port}"), _process: process }
}
