//! What each answer of S3 means for the batch.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;

use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{BehaviorVersion, Region};
use aws_smithy_http_client::Builder;
use msk_to_s3::{Bucket, write_batch};
use postern_runtime::NamedError as _;

use crate::support::{event, good, lines};

/// Answers one request; hands back its head.
fn server(status: &'static str, body: String) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (heads, received) = mpsc::channel();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        let mut buffer = [0; 4096];
        let done = |request: &[u8]| {
            let text = String::from_utf8_lossy(request).to_lowercase();
            let (head, rest) = text.split_once("\r\n\r\n")?;
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
            (rest.len() >= length.parse().ok()?).then(|| head.to_owned())
        };
        let head = loop {
            let read = stream.read(&mut buffer).unwrap();
            request.extend_from_slice(&buffer[..read]);
            if let Some(head) = done(&request) {
                break head;
            }
        };
        write!(
            stream,
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        heads.send(head).unwrap();
    });
    (endpoint, received)
}

/// Writes a batch to S3 that answers so; what comes of it, and the request's head.
fn put(status: &'static str, code: &str) -> (Result<usize, &'static str>, String) {
    let body = if code.is_empty() { String::new() } else { format!("<Error><Code>{code}</Code></Error>") };
    let (endpoint, head) = server(status, body);
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("eu-west-1"))
        .endpoint_url(endpoint)
        .force_path_style(true)
        .allow_no_auth()
        .retry_config(RetryConfig::disabled())
        .http_client(Builder::new().build_http())
        .build();
    let bucket = Bucket::new(aws_sdk_s3::Client::from_conf(config), "bucket");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = runtime.block_on(write_batch(&bucket, &lines(), event(&good(0..3)).get().as_bytes()));
    let outcome = outcome.map(|answer| answer.batch_item_failures.len()).map_err(|error| error.name());
    (outcome, head.recv().unwrap())
}

#[test]
fn a_write_asks_not_to_overwrite() {
    let (outcome, head) = put("200 OK", "");
    assert_eq!(outcome, Ok(0));
    assert!(
        head.starts_with("put /bucket/t/0/customer-data-19700101t000000z-00000000000000000000-"),
        "{head}"
    );
    assert!(head.contains("\r\nif-none-match: *\r\n"), "{head}");
    assert!(head.contains("\r\ncontent-type: text/csv; charset=utf-8\r\n"), "{head}");
    assert!(head.contains("\r\nx-amz-checksum-"), "S3 checks what it got: {head}");
}

#[test]
fn every_answer_has_its_meaning() {
    for (status, code, outcome) in [
        ("412 Precondition Failed", "PreconditionFailed", Ok(0)),
        ("412 Precondition Failed", "", Ok(0)),
        ("503 Slow Down", "SlowDown", Err("MskToS3.Throttled")),
        ("503 Service Unavailable", "ServiceUnavailable", Err("MskToS3.Unavailable")),
        ("500 Internal Server Error", "InternalError", Err("MskToS3.Unavailable")),
        ("409 Conflict", "ConditionalRequestConflict", Err("MskToS3.Unavailable")),
        ("403 Forbidden", "AccessDenied", Err("MskToS3.AccessDenied")),
        ("404 Not Found", "NoSuchBucket", Err("MskToS3.NoSuchBucket")),
        ("400 Bad Request", "InvalidRequest", Err("MskToS3.Refused")),
    ] {
        assert_eq!(put(status, code).0, outcome, "{status} {code}");
    }
}
