//! Large inputs and results: the test takes the part of the cloud, and a server on loopback that of S3.

mod silence;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming as Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use postern_types::{Command, InputRef, ObjectRef, Sha256Sum};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;

use super::bench::{Bench, Broker, Do, id, our_job, work};
use super::*;
use crate::handler::{JobContext, Policy};
use crate::link::ControlKind;

/// A stand-in for S3: objects by path, and the statuses of the next requests.
#[derive(Clone, Default)]
struct Bucket {
    objects: Arc<Mutex<BTreeMap<String, Bytes>>>,
    statuses: Arc<Mutex<Vec<u16>>>,
    requests: Arc<AtomicUsize>,
    port: u16,
}

impl Bucket {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let bucket = Self { port: listener.local_addr().unwrap().port(), ..Self::default() };
        let served = bucket.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let bucket = served.clone();
                let service = service_fn(move |request| {
                    let bucket = bucket.clone();
                    async move { Ok::<_, Infallible>(bucket.answer(request).await) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        bucket
    }

    async fn answer(&self, request: Request<Body>) -> Response<Full<Bytes>> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let path = request.uri().path().to_owned();
        let is_put = request.method() == "PUT";
        let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes);
        let status = self.statuses.lock().unwrap().pop().unwrap_or(200);

        let mut content = Bytes::new();
        if let (true, 200, Ok(body)) = (is_put, status, body) {
            self.objects.lock().unwrap().insert(path, body);
        } else if status == 200 {
            content = self.objects.lock().unwrap()[&path].clone();
        }
        Response::builder().status(status).body(Full::new(content)).unwrap()
    }

    fn url(&self, key: &str) -> String {
        format!("http://127.0.0.1:{}/{key}?X-Amz-Signature=secret", self.port)
    }

    fn object(&self, key: &str) -> Option<Bytes> {
        self.objects.lock().unwrap().get(&format!("/{key}")).cloned()
    }

    fn put(&self, key: &str, content: &[u8]) -> InputRef {
        self.objects.lock().unwrap().insert(format!("/{key}"), Bytes::copy_from_slice(content));
        InputRef {
            bucket: "b".into(),
            key: key.into(),
            url: self.url(key),
            bytes: content.len() as u64,
            sha256: Some(sum(content)),
        }
    }
}

fn sum(content: &[u8]) -> String {
    Sha256Sum::new(Sha256::digest(content).into()).to_string()
}

/// Grants the upload of the job `abc`.
fn grant(bench: &Bench, bucket: &Bucket, key: &str) {
    let command = Command::Upload {
        job_id: id("abc"),
        url: bucket.url(key),
        headers: BTreeMap::from([("x-amz-checksum-sha256".into(), "c3Vt".into())]),
        result_ref: ObjectRef { bucket: "b".into(), key: key.into() },
    };
    give(bench, &command);
}

/// Refuses the URL for the result of the job `abc`.
fn refuse(bench: &Bench) {
    let (error, cause) = ("Worker.ResultTooLarge".into(), "no bucket".into());
    give(bench, &Command::Refused { job_id: id("abc"), error, cause });
}

fn give(bench: &Bench, command: &Command) {
    bench.control(90, ControlKind::Command, std::str::from_utf8(&command.bytes()).unwrap());
}

fn large() -> Value {
    Value::from("x".repeat(IOT_PAYLOAD_BYTES))
}

/// The files in the spool of a state directory.
fn spooled(directory: &Path) -> usize {
    std::fs::read_dir(directory.join("spool")).map_or(0, |files| files.flatten().count())
}

/// Waits until the spool is empty.
async fn emptied(directory: &Path) {
    let emptied = async {
        while spooled(directory) > 0 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(30), emptied).await.expect("the spool is never empty");
}

/// An engine that has its control topics.
fn open(directory: &Path, registry: Registry) -> Bench {
    let broker = Broker::default();
    broker.0.controlled.send_replace(1);
    Bench::open(directory, broker, registry, 1, Handle::current())
}

#[tokio::test]
async fn a_result_too_large_for_a_message_is_uploaded_and_the_answer_says_where() {
    let (directory, bucket) = (tempfile::tempdir().unwrap(), Bucket::start().await);
    let bench = open(directory.path(), work(async |_| Ok(large())));
    bench.send(1, &our_job("abc", r#","HeartbeatSeconds":3"#));

    let content = large().to_string();
    let request = &bench.answers("UPLOAD", 1).await[0];
    assert_eq!((&request["TaskToken"], &request["Bytes"]), (&json!("abc"), &json!(content.len())));
    assert_eq!(
        (&request["Sha256"], &request["ContentType"]),
        (&json!(sum(content.as_bytes())), &json!("application/json"))
    );
    bench.answers("HEARTBEAT", 2).await;

    grant(&bench, &bucket, "t/abc");
    let answer = &bench.answers("SUCCEEDED", 1).await[0];
    let expected = json!({"Bucket": "b", "Key": "t/abc", "Bytes": content.len(), "Sha256": sum(content.as_bytes()),
        "ContentType": "application/json"});
    assert_eq!(answer["ResultRef"], expected);
    assert!(answer.get("result").is_none());
    assert_eq!(bucket.object("t/abc").unwrap(), content);
    emptied(directory.path()).await;
}

#[tokio::test]
async fn a_result_that_is_written_piece_by_piece_is_uploaded_whatever_its_size() {
    let (directory, bucket) = (tempfile::tempdir().unwrap(), Bucket::start().await);
    let writes = work(async |job: JobContext| {
        let mut file = job.result_file("text/csv")?;
        file.append("a,")?;
        file.append("b\r\n")?;
        file.finish()?;
        Ok(json!("not the result"))
    });
    let bench = open(directory.path(), writes);
    bench.send(1, &our_job("abc", ""));
    bench.answers("UPLOAD", 1).await;
    grant(&bench, &bucket, "t/abc");

    let answer = &bench.answers("SUCCEEDED", 1).await[0];
    assert_eq!(
        (&answer["ResultRef"]["ContentType"], &answer["ResultRef"]["Bytes"]),
        (&json!("text/csv"), &json!(5))
    );
    assert_eq!(bucket.object("t/abc").unwrap(), "a,b\r\n");
}

#[tokio::test]
async fn an_expired_url_is_replaced_and_a_failing_bucket_is_tried_again() {
    let (directory, bucket) = (tempfile::tempdir().unwrap(), Bucket::start().await);
    // The last status comes first.
    *bucket.statuses.lock().unwrap() = vec![503, 403];
    let bench = open(directory.path(), work(async |_| Ok(large())));
    bench.send(1, &our_job("abc", ""));

    bench.answers("UPLOAD", 1).await;
    grant(&bench, &bucket, "t/expired");
    bench.answers("UPLOAD", 2).await;
    grant(&bench, &bucket, "t/abc");
    let answer = &bench.answers("SUCCEEDED", 1).await[0];
    assert_eq!(answer["ResultRef"]["Key"], "t/abc");
    assert_eq!(bucket.requests.load(Ordering::SeqCst), 3, "expired, failed, taken");
    assert_eq!(bucket.object("t/abc").unwrap(), large().to_string());
}

#[tokio::test]
async fn a_refusal_fails_the_job_by_its_name_and_leaves_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let bench = open(directory.path(), work(async |_| Ok(large())));
    bench.send(1, &our_job("abc", ""));
    bench.answers("UPLOAD", 1).await;
    refuse(&bench);

    let answer = &bench.answers("FAILED", 1).await[0];
    assert_eq!((&answer["Error"], &answer["Cause"]), (&json!("Worker.ResultTooLarge"), &json!("no bucket")));
    emptied(directory.path()).await;
}

#[tokio::test]
async fn a_process_that_dies_before_the_upload_leaves_it_to_the_next_one_and_no_handler_runs_again() {
    let (directory, bucket) = (tempfile::tempdir().unwrap(), Bucket::start().await);
    let runs = Arc::new(AtomicUsize::new(0));
    let registry = || {
        let counted = Arc::clone(&runs);
        let run = move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            async { Ok(large()) }
        };
        Registry::new().on("work", Do(Policy::Once, run))
    };

    // The first process runs on a runtime of its own, and ends with it wherever its tasks are.
    let (path, first) = (directory.path().to_owned(), registry());
    let died = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let bench = open(&path, first);
            bench.send(1, &our_job("abc", ""));
            bench.answers("UPLOAD", 1).await;
        });
    });
    died.join().unwrap();
    assert_eq!(spooled(directory.path()), 1);
    std::fs::write(directory.path().join("spool/stray.result"), "of a process that died while it wrote")
        .unwrap();

    let bench = open(directory.path(), registry());
    bench.answers("UPLOAD", 1).await;
    assert_eq!(spooled(directory.path()), 1, "the stray file is deleted");
    grant(&bench, &bucket, "t/abc");
    bench.answers("SUCCEEDED", 1).await;
    assert_eq!(bucket.object("t/abc").unwrap(), large().to_string());
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_samples_functions_are_not_asked_for_an_upload() {
    let directory = tempfile::tempdir().unwrap();
    let bench = open(directory.path(), work(async |_| Ok(large())));
    bench.send(1, r#"{"TaskToken":"abc","Input":1}"#);
    assert_eq!(bench.answers("FAILED", 1).await[0]["Error"], "Worker.ResultTooLarge");
    assert_eq!(bench.published(), 1);
}

// ---- Inputs ----------------------------------------------------------------------------------------------------------

fn job_with(input: &InputRef) -> String {
    json!({"TaskToken": "abc", "JobId": "x", "InputRef": input}).to_string()
}

/// Answers with what the handler sees of its input.
fn shows_input() -> Registry {
    work(async |job: JobContext| {
        let file = job.input_file().map(|path| std::fs::read(path).map(|content| content.len()));
        let value = job.input::<Value>().map_err(|failure| failure.error().to_owned());
        Ok(json!([file.transpose().unwrap(), value.as_ref().ok(), value.as_ref().err()]))
    })
}

#[tokio::test]
async fn an_input_in_s3_is_a_value_and_a_file() {
    let (directory, bucket) = (tempfile::tempdir().unwrap(), Bucket::start().await);
    let bench = open(directory.path(), shows_input());
    bench.send(1, &job_with(&bucket.put("t/inputs/abc", br#"{"a": 1.50}"#)));
    let answer = &bench.answers("SUCCEEDED", 1).await[0];
    assert_eq!(answer["result"], json!([11, {"a": 1.5}, null]));
    emptied(directory.path()).await;
}

#[tokio::test]
async fn an_input_that_is_no_json_or_too_large_for_the_memory_is_a_file_only() {
    let (directory, bucket) = (tempfile::tempdir().unwrap(), Bucket::start().await);
    let bench = open(directory.path(), shows_input());
    bench.send(1, &job_with(&bucket.put("a.csv", b"a,b\r\n")));
    let answers = bench.answers("SUCCEEDED", 1).await;
    assert_eq!(answers[0]["result"], json!([5, null, "Worker.InvalidInput"]));

    let large = format!("\"{}\"", "x".repeat(9_000_000));
    let job = job_with(&bucket.put("large", large.as_bytes())).replace("abc", "def");
    bench.send(2, &job);
    let answers = bench.answers("SUCCEEDED", 2).await;
    assert_eq!(answers[1]["result"], json!([9_000_002, null, "Worker.InvalidInput"]));
}

#[tokio::test]
async fn an_expired_url_of_an_input_is_renewed() {
    let (directory, bucket) = (tempfile::tempdir().unwrap(), Bucket::start().await);
    *bucket.statuses.lock().unwrap() = vec![403];
    let bench = open(directory.path(), shows_input());
    let input = bucket.put("t/inputs/abc", b"57");
    bench.send(1, &job_with(&input));

    bench.answers("DOWNLOAD", 1).await;
    give(&bench, &Command::Download { job_id: id("abc"), input_ref: input });
    assert_eq!(bench.answers("SUCCEEDED", 1).await[0]["result"], json!([2, 57, null]));
}

#[tokio::test]
async fn an_input_that_is_not_what_the_message_says_never_reaches_the_handler() {
    let (directory, bucket) = (tempfile::tempdir().unwrap(), Bucket::start().await);
    let bench = open(directory.path(), shows_input());
    let good = bucket.put("t/inputs/abc", b"57");
    let wrong_sum = InputRef { sha256: Some(sum(b"58")), ..good.clone() };
    let too_long = InputRef { bytes: 1, ..good.clone() };

    bench.send(1, &job_with(&wrong_sum));
    for (count, wrong) in [(1, &too_long), (2, &wrong_sum), (3, &wrong_sum)] {
        bench.answers("DOWNLOAD", count).await;
        give(&bench, &Command::Download { job_id: id("abc"), input_ref: wrong.clone() });
    }
    let answer = &bench.answers("FAILED", 1).await[0];
    assert_eq!(answer["Error"], "Worker.InputUnavailable");
    assert!(answer["Cause"].as_str().unwrap().contains("SHA-256"), "{answer}");
    emptied(directory.path()).await;
}

#[tokio::test]
async fn a_url_without_tls_to_another_machine_is_not_used() {
    let directory = tempfile::tempdir().unwrap();
    let bench = open(directory.path(), shows_input());
    let (bytes, sha256) = (2, Some(sum(b"57")));
    let url = "http://192.0.2.1/a".to_owned();
    let deadline = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3);
    let input = InputRef { bucket: "b".into(), key: "a".into(), url, bytes, sha256 };
    let job = json!({"TaskToken": "abc", "JobId": "x", "InputRef": input, "Deadline": deadline});
    bench.send(1, &job.to_string());
    assert_eq!(bench.answers("FAILED", 1).await[0]["Error"], "Worker.DeadlineExceeded");
}
