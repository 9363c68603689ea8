//! What each answer of S3 means for the batch.

use std::sync::mpsc;

use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{BehaviorVersion, Region};
use aws_smithy_http_client::Builder;
use bytes::Bytes;
use http::{Request, Response};
use msk_to_s3::{Bucket, write_batch};
use postern_runtime::NamedError as _;
use postern_testing::LoopbackServer;

use crate::support::{event, good, lines};

/// Writes a batch to an S3 that gives this answer. Returns the outcome, and the request that S3 received.
fn put(status: u16, code: &str) -> (Result<usize, &'static str>, Request<Bytes>) {
    let body = if code.is_empty() { String::new() } else { format!("<Error><Code>{code}</Code></Error>") };
    let (requests, received) = mpsc::channel();
    let server = LoopbackServer::start(move |request| {
        requests.send(request).unwrap();
        Response::builder().status(status).body(Bytes::from(body.clone())).unwrap()
    });

    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("eu-west-1"))
        .endpoint_url(server.url())
        .force_path_style(true)
        .allow_no_auth()
        .retry_config(RetryConfig::disabled())
        .http_client(Builder::new().build_http())
        .build();
    let bucket = Bucket::new(aws_sdk_s3::Client::from_conf(config), "bucket");

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = runtime.block_on(write_batch(&bucket, &lines(), event(&good(0..3)).get().as_bytes()));
    let outcome = outcome.map(|answer| answer.batch_item_failures.len()).map_err(|error| error.name());
    (outcome, received.recv().unwrap())
}

#[test]
fn a_write_never_overwrites_an_object() {
    let (outcome, request) = put(200, "");
    assert_eq!(outcome, Ok(0));
    assert_eq!(request.method(), "PUT");
    let path = request.uri().path();
    assert!(path.starts_with("/bucket/t/0/customer-data-19700101T000000Z-00000000000000000000-"), "{path}");

    let headers = request.headers();
    assert_eq!(headers["if-none-match"], "*");
    assert_eq!(headers["content-type"], "text/csv; charset=utf-8");
    let has_checksum = headers.keys().any(|name| name.as_str().starts_with("x-amz-checksum-"));
    assert!(has_checksum, "S3 must be able to check the content: {headers:?}");
}

#[test]
fn every_answer_of_s3_has_an_outcome() {
    for (status, code, outcome) in [
        (412, "PreconditionFailed", Ok(0)),
        (412, "", Ok(0)),
        (503, "SlowDown", Err("MskToS3.Throttled")),
        (503, "ServiceUnavailable", Err("MskToS3.Unavailable")),
        (500, "InternalError", Err("MskToS3.Unavailable")),
        (409, "ConditionalRequestConflict", Err("MskToS3.Unavailable")),
        (403, "AccessDenied", Err("MskToS3.AccessDenied")),
        (404, "NoSuchBucket", Err("MskToS3.NoSuchBucket")),
        (400, "InvalidRequest", Err("MskToS3.Refused")),
    ] {
        assert_eq!(put(status, code).0, outcome, "{status} {code}");
    }
}
