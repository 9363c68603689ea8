//! An S3 server that keeps objects in memory. Its faults are pseudo-random and follow from a seed.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use postern_demos::kafka::customers::Numbers;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::parts::BUCKET;

/// How often S3 gave each kind of answer to a put.
#[derive(Default)]
pub(crate) struct Counts {
    /// The object was not stored, and the answer was an error.
    pub(crate) refused: AtomicU64,
    /// The object was stored, but the answer was an error.
    pub(crate) stored_then_failed: AtomicU64,
    /// An object with the same key existed, so the object was not stored.
    pub(crate) existed: AtomicU64,
}

/// The server, with one bucket.
pub(crate) struct S3 {
    /// The objects by key.
    objects: Mutex<BTreeMap<String, Bytes>>,
    /// Draws the faults; `None` if no put fails.
    faults: Option<Mutex<Numbers>>,
    pub(crate) counts: Counts,
    puts: watch::Sender<u64>,
}

/// How a put fails.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// The object is not stored; the answer is 503.
    Refused,
    /// The object is stored, but the answer is 503.
    StoredThenFailed,
    /// The object is stored, and the answer is 412, as for a retry after the first answer was lost.
    StoredBefore,
}

impl S3 {
    /// Starts the server and returns its endpoint. `faults` is the seed of the faults; without a seed no put fails.
    pub(crate) async fn start(faults: Option<u64>) -> (Arc<Self>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let s3 = Arc::new(Self {
            objects: Mutex::default(),
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

    /// The number of puts so far. A receiver can wait for the next put.
    pub(crate) fn puts(&self) -> watch::Receiver<u64> {
        self.puts.subscribe()
    }

    /// Answers a request. A put of an object may fail.
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let Ok(body) = body.collect().await else { return answer(400, "IncompleteBody") };

        let object = head.uri.path().trim_matches('/').contains('/');
        if head.method != Method::PUT || !object {
            return self.store(&Request::from_parts(head, body.to_bytes()));
        }

        self.puts.send_modify(|puts| *puts += 1);
        let fault = self.fault();
        if fault == Fault::Refused {
            self.counts.refused.fetch_add(1, Ordering::Relaxed);
            return answer(503, "SlowDown");
        }

        let stored = self.store(&Request::from_parts(head, body.to_bytes()));
        if stored.status() == StatusCode::PRECONDITION_FAILED {
            self.counts.existed.fetch_add(1, Ordering::Relaxed);
        } else if fault != Fault::None && stored.status().is_success() {
            self.counts.stored_then_failed.fetch_add(1, Ordering::Relaxed);
            return match fault {
                Fault::StoredBefore => answer(412, "PreconditionFailed"),
                _ => answer(503, "ServiceUnavailable"),
            };
        }
        stored
    }

    /// Draws how the next put fails.
    fn fault(&self) -> Fault {
        let draw = self.faults.as_ref().map(|numbers| numbers.lock().unwrap().below(100));
        match draw {
            Some(0..20) => Fault::Refused,
            Some(20..30) => Fault::StoredThenFailed,
            Some(30..40) => Fault::StoredBefore,
            _ => Fault::None,
        }
    }

    /// Answers a request without faults.
    fn store(&self, request: &Request<Bytes>) -> Response<Full<Bytes>> {
        let mut objects = self.objects.lock().unwrap();
        let path = request.uri().path().trim_start_matches('/');
        let key = path.split_once('/').map(|(_, key)| key).filter(|key| !key.is_empty());

        match (request.method(), key) {
            (&Method::PUT, None) => answer(200, ""),
            (&Method::HEAD, None) if path.trim_end_matches('/') == BUCKET => answer(200, ""),
            (&Method::HEAD, None) => answer(404, ""),
            (&Method::PUT, Some(key)) => put(&mut objects, key, request),
            (&Method::GET, None) => list(&objects, request.uri().query().unwrap_or_default()),
            (&Method::GET, Some(key)) => match objects.get(key) {
                Some(object) => Response::new(Full::new(object.clone())),
                None => answer(404, "NoSuchKey"),
            },
            _ => answer(501, "NotImplemented"),
        }
    }
}

/// Stores an object. Only invocation records may be put without the condition that the key is new.
fn put(objects: &mut BTreeMap<String, Bytes>, key: &str, request: &Request<Bytes>) -> Response<Full<Bytes>> {
    let must_be_new = request.headers().get("if-none-match").is_some_and(|tag| tag == "*");
    assert!(must_be_new || key.contains("aws/lambda/"), "{key} could be overwritten");
    if must_be_new && objects.contains_key(key) {
        return answer(412, "PreconditionFailed");
    }

    objects.insert(key.to_owned(), request.body().clone());
    answer(200, "")
}

/// Lists keys in pages of a thousand, as S3 does.
fn list(objects: &BTreeMap<String, Bytes>, query: &str) -> Response<Full<Bytes>> {
    let value = |name: &str| query.split('&').find_map(|part| part.strip_prefix(name)).unwrap_or_default();
    let (prefix, from) =
        (value("prefix=").replace("%2F", "/"), value("continuation-token=").replace("%2F", "/"));

    let mut keys = objects.keys().filter(|key| key.starts_with(&prefix) && **key > from);
    let page: Vec<&String> = keys.by_ref().take(1_000).collect();
    let contents: Vec<String> =
        page.iter().map(|key| format!("<Contents><Key>{key}</Key></Contents>")).collect();
    let contents = contents.concat();

    let next = match (page.last(), keys.next()) {
        (Some(last), Some(_)) => format!("<NextContinuationToken>{last}</NextContinuationToken>"),
        _ => String::new(),
    };
    let truncated = !next.is_empty();
    Response::new(Full::from(format!(
        "<ListBucketResult><IsTruncated>{truncated}</IsTruncated>{contents}{next}</ListBucketResult>"
    )))
}

/// A response with an error code, or without a body if the code is empty.
fn answer(status: u16, code: &str) -> Response<Full<Bytes>> {
    let body = if code.is_empty() { String::new() } else { format!("<Error><Code>{code}</Code></Error>") };
    Response::builder().status(status).body(Full::from(body)).unwrap()
}
