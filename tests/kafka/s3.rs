//! An S3 server that keeps objects in memory. Its faults are pseudo-random and follow from a seed. Every request of an
//! object can fail, and every write is conditional.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
    /// The objects by key, and the uploads that are not complete by id.
    objects: Mutex<Objects>,
    /// Draws the faults; `None` if no put fails.
    faults: Option<Mutex<Numbers>>,
    /// Whether reads fail, too.
    reads_fail: AtomicBool,
    /// The next writes of keys that contain this text are refused, so many of them.
    refused_next: Mutex<(String, u32)>,
    pub(crate) counts: Counts,
    puts: watch::Sender<u64>,
}

/// The content of the bucket.
#[derive(Default)]
struct Objects {
    objects: BTreeMap<String, Object>,
    uploads: BTreeMap<String, BTreeMap<u32, Bytes>>,
    versions: u64,
}

/// An object and the number of its version, which is its `ETag`.
#[derive(Clone)]
struct Object {
    body: Bytes,
    version: u64,
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
    /// The object is not stored; the answer is 409, as if another write of the key was in progress.
    Conflict,
}

impl S3 {
    /// Starts the server and returns its endpoint. `faults` is the seed of the faults; without a seed no put fails.
    pub(crate) async fn start(faults: Option<u64>) -> (Arc<Self>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let s3 = Arc::new(Self {
            objects: Mutex::default(),
            faults: faults.map(|seed| Mutex::new(Numbers::new(seed))),
            reads_fail: AtomicBool::new(false),
            refused_next: Mutex::default(),
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

    /// Draws whether a read fails: one in thirty does, because a run of compaction reads many objects.
    fn fails_read(&self) -> bool {
        let faults = self.faults.as_ref().filter(|_| self.reads_fail.load(Ordering::Relaxed));
        faults.is_some_and(|numbers| numbers.lock().unwrap().below(30) == 0)
    }

    /// Lets reads of objects fail, or not.
    pub(crate) fn fail_reads(&self, fail: bool) {
        self.reads_fail.store(fail, Ordering::Relaxed);
    }

    /// Answers a request. One of an object may fail.
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let Ok(body) = body.collect().await else { return answer(400, "IncompleteBody") };
        let request = Request::from_parts(head, body.to_bytes());

        let object = request.uri().path().trim_matches('/').contains('/');
        let writes = matches!(*request.method(), Method::PUT | Method::POST);
        match object {
            true if writes => self.write(&request),
            true if self.fails_read() => answer(503, "SlowDown"),
            _ => self.store(&request),
        }
    }

    /// Refuses the next writes of keys that contain `text`.
    pub(crate) fn refuse_next(&self, text: &str, writes: u32) {
        *self.refused_next.lock().unwrap() = (text.to_owned(), writes);
    }

    fn is_refused(&self, path: &str) -> bool {
        let mut refused = self.refused_next.lock().unwrap();
        let refuse = refused.1 > 0 && path.contains(&refused.0);
        refused.1 -= u32::from(refuse);
        refuse
    }

    /// Answers a request that writes an object.
    fn write(&self, request: &Request<Bytes>) -> Response<Full<Bytes>> {
        self.puts.send_modify(|puts| *puts += 1);
        let fault = if self.is_refused(request.uri().path()) { Fault::Refused } else { self.fault() };
        if matches!(fault, Fault::Refused | Fault::Conflict) {
            self.counts.refused.fetch_add(1, Ordering::Relaxed);
            let conflict = fault == Fault::Conflict;
            return if conflict {
                answer(409, "ConditionalRequestConflict")
            } else {
                answer(503, "SlowDown")
            };
        }

        let stored = self.store(request);
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

    /// Draws how the next request fails.
    fn fault(&self) -> Fault {
        let draw = self.faults.as_ref().map(|numbers| numbers.lock().unwrap().below(100));
        match draw {
            Some(0..20) => Fault::Refused,
            Some(20..30) => Fault::StoredThenFailed,
            Some(30..40) => Fault::StoredBefore,
            Some(40..43) => Fault::Conflict,
            _ => Fault::None,
        }
    }

    /// Answers a request without faults.
    fn store(&self, request: &Request<Bytes>) -> Response<Full<Bytes>> {
        let mut objects = self.objects.lock().unwrap();
        let path = request.uri().path().trim_start_matches('/').replace("%3D", "=");
        let query = request.uri().query().unwrap_or_default();
        let key = path.split_once('/').map(|(_, key)| key).filter(|key| !key.is_empty());

        match (request.method(), key) {
            (&Method::PUT, None) => answer(200, ""),
            (&Method::HEAD, None) if path.trim_end_matches('/') == BUCKET => answer(200, ""),
            (&Method::HEAD, None) => answer(404, ""),
            (&Method::GET, None) => list(&objects.objects, query),
            (&Method::POST, Some(key)) => objects.upload(key, query, request),
            (&Method::PUT, Some(_)) if query.contains("uploadId=") => objects.part(query, request.body()),
            (&Method::DELETE, Some(_)) => {
                objects.uploads.remove(parameter(query, "uploadId="));
                answer(204, "")
            }
            (&Method::PUT, Some(key)) => objects.put(key, request.body().clone(), request),
            (&Method::GET | &Method::HEAD, Some(key)) => match objects.objects.get(key) {
                Some(object) => with_etag(Response::new(Full::new(object.body.clone())), object.version),
                None => answer(404, "NoSuchKey"),
            },
            _ => answer(501, "NotImplemented"),
        }
    }
}

impl Objects {
    /// Stores an object if the condition of the request is met. Only invocation records may be put without one.
    fn put(&mut self, key: &str, body: Bytes, request: &Request<Bytes>) -> Response<Full<Bytes>> {
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
        let present = self.objects.get(key).map(|object| etag(object.version));
        let met = match (header("if-none-match"), header("if-match")) {
            (Some("*"), None) => present.is_none(),
            (None, Some(tag)) => present.as_deref() == Some(tag),
            _ => {
                assert!(key.contains("aws/lambda/"), "{key} could be overwritten");
                true
            }
        };
        if !met {
            return answer(412, "PreconditionFailed");
        }

        self.versions += 1;
        self.objects.insert(key.to_owned(), Object { body, version: self.versions });
        with_etag(answer(200, ""), self.versions)
    }

    /// Begins an upload in parts, or completes it.
    fn upload(&mut self, key: &str, query: &str, request: &Request<Bytes>) -> Response<Full<Bytes>> {
        if !query.contains("uploadId=") {
            self.versions += 1;
            let id = format!("u{}", self.versions);
            self.uploads.insert(id.clone(), BTreeMap::new());
            let begun = format!(
                "<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
            );
            return Response::new(Full::from(begun));
        }

        let id = parameter(query, "uploadId=");
        let Some(parts) = self.uploads.get(id) else { return answer(404, "NoSuchUpload") };
        let body: Vec<u8> = parts.values().flat_map(|part| part.to_vec()).collect();
        let stored = self.put(key, body.into(), request);
        if stored.status().is_success() {
            self.uploads.remove(id);
            return Response::new(Full::from(
                "<CompleteMultipartUploadResult></CompleteMultipartUploadResult>",
            ));
        }
        stored
    }

    fn part(&mut self, query: &str, body: &Bytes) -> Response<Full<Bytes>> {
        let number: u32 = parameter(query, "partNumber=").parse().unwrap();
        let Some(parts) = self.uploads.get_mut(parameter(query, "uploadId=")) else {
            return answer(404, "NoSuchUpload");
        };
        parts.insert(number, body.clone());
        with_etag(answer(200, ""), u64::from(number))
    }
}

/// The value of a parameter in a query, or an empty text.
fn parameter<'q>(query: &'q str, name: &str) -> &'q str {
    query.split('&').find_map(|part| part.strip_prefix(name)).unwrap_or_default()
}

fn etag(version: u64) -> String {
    format!("\"{version}\"")
}

fn with_etag(mut response: Response<Full<Bytes>>, version: u64) -> Response<Full<Bytes>> {
    response.headers_mut().insert("etag", etag(version).parse().unwrap());
    response
}

/// Lists keys in pages of a thousand, as S3 does. With a delimiter the list has the folders only, on one page.
fn list(objects: &BTreeMap<String, Object>, query: &str) -> Response<Full<Bytes>> {
    let value = |name: &str| parameter(query, name).replace("%2F", "/").replace("%3D", "=");
    let (prefix, from) = (value("prefix="), value("continuation-token="));
    if query.contains("delimiter=") {
        return folders(objects, &prefix);
    }

    let mut keys = objects.iter().filter(|(key, _)| key.starts_with(&prefix) && **key > from);
    let page: Vec<_> = keys.by_ref().take(1_000).collect();
    let contents: String = page
        .iter()
        .map(|(key, object)| {
            let etag = etag(object.version).replace('"', "&quot;");
            format!(
                "<Contents><Key>{key}</Key><ETag>{etag}</ETag><LastModified>2026-01-01T00:00:00Z</LastModified></Contents>"
            )
        })
        .collect();

    let next = match (page.last(), keys.next()) {
        (Some((last, _)), Some(_)) => format!("<NextContinuationToken>{last}</NextContinuationToken>"),
        _ => String::new(),
    };
    let truncated = !next.is_empty();
    Response::new(Full::from(format!(
        "<ListBucketResult><IsTruncated>{truncated}</IsTruncated>{contents}{next}</ListBucketResult>"
    )))
}

/// The folders directly under a prefix.
fn folders(objects: &BTreeMap<String, Object>, prefix: &str) -> Response<Full<Bytes>> {
    let names = objects.keys().filter_map(|key| key.strip_prefix(prefix)?.split_once('/'));
    let names: BTreeSet<&str> = names.map(|(folder, _)| folder).collect();
    let folders: String = names
        .iter()
        .map(|name| format!("<CommonPrefixes><Prefix>{prefix}{name}/</Prefix></CommonPrefixes>"))
        .collect();
    Response::new(Full::from(format!("<ListBucketResult>{folders}</ListBucketResult>")))
}

/// A response with an error code, or without a body if the code is empty.
fn answer(status: u16, code: &str) -> Response<Full<Bytes>> {
    let body = if code.is_empty() { String::new() } else { format!("<Error><Code>{code}</Code></Error>") };
    Response::builder().status(status).body(Full::from(body)).unwrap()
}
