use std::cell::RefCell;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::Response;
use postern_runtime::env::Environment;
use postern_testing::LoopbackServer;
use postern_types::TaskToken;

use super::*;

/// Keeps what is sent, with its topic.
#[derive(Default)]
pub(crate) struct Sent(pub(crate) RefCell<Vec<(String, Command)>>);

impl Commands for Sent {
    async fn send(&self, topic: &Topic, command: &Command) -> Result<(), Error> {
        self.0.borrow_mut().push((topic.to_string(), command.clone()));
        Ok(())
    }
}

type Heads = Arc<Mutex<Vec<String>>>;

/// A claim check whose S3 knows the objects of these paths, with these headers.
fn claims(
    objects: &'static [(&'static str, &'static [(&'static str, &'static str)])],
) -> (Claims<Sent>, Heads) {
    let heads = Heads::default();
    let seen = Arc::clone(&heads);
    let server = LoopbackServer::start(move |request| {
        seen.lock().unwrap().push(request.uri().path().to_owned());
        let found = objects.iter().find(|(path, _)| *path == request.uri().path());
        let mut response = Response::builder().status(if found.is_some() { 200 } else { 403 });
        for (name, value) in found.map_or(&[][..], |(_, headers)| headers) {
            response = response.header(*name, *value);
        }
        response.body(Bytes::new()).unwrap()
    });

    let url = server.url();
    let variables = [
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ENDPOINT_URL", &*url),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("CLAIM_CHECK_BUCKET", "claims"),
    ];
    let bucket = ClaimCheck::from_env(&Environment::of(&variables)).unwrap();
    (Claims { bucket, commands: Sent::default() }, heads)
}

fn asker() -> Asker {
    let job_id = TaskToken::parse("abc").unwrap().job_id();
    Asker::new(&job_id, Some("tenant1"), Some("worker-1")).unwrap()
}

fn upload(bytes: u64) -> Request {
    Request::Upload(UploadRequest { bytes, sha256: "ab".repeat(32), content_type: "text/csv".into() })
}

/// The one command that the claim check has sent, and its topic.
async fn reply(claims: &Claims<Sent>, request: &Request, is_open: bool) -> (String, Command) {
    claims.reply(&asker(), request, is_open).await.unwrap();
    let mut sent = claims.commands.0.borrow_mut();
    assert_eq!(sent.len(), 1);
    sent.remove(0)
}

/// The error and the cause of a refusal.
fn refusal(command: Command) -> (String, String) {
    match command {
        Command::Refused { error, cause, .. } => (error, cause),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_upload_goes_to_the_worker_that_asked_and_to_the_key_of_its_tenant_and_job() {
    let (claims, _) = claims(&[]);
    let (topic, command) = reply(&claims, &upload(7), true).await;
    assert_eq!(topic, "tenant1/to/worker/worker-1");
    let Command::Upload { url, headers, result_ref, .. } = command else { panic!() };

    assert_eq!(
        (&*result_ref.bucket, &*result_ref.key),
        ("claims", "tenant1/ba7816bf8f01cfea414140de5dae2223")
    );
    assert!(url.contains("/claims/tenant1/ba7816bf8f01cfea414140de5dae2223?"), "{url}");
    assert_eq!((&*headers["content-length"], &*headers["content-type"]), ("7", "text/csv"));
    assert!(headers.contains_key("x-amz-checksum-sha256"));
    for name in headers.keys() {
        assert!(url.contains(name), "{name} is not signed in {url}");
    }
}

#[tokio::test]
async fn a_refusal_has_the_name_of_its_reason() {
    let (some, _) = claims(&[]);
    let none = Claims { bucket: None, commands: Sent::default() };
    for (claims, request, is_open, name) in [
        (&some, upload(UPLOAD_BYTES + 1), true, RESULT_TOO_LARGE),
        (&none, upload(7), true, RESULT_TOO_LARGE),
        (&none, Request::Download, true, INPUT_UNAVAILABLE),
        (&some, upload(7), false, Answer::CANCELLED),
    ] {
        assert_eq!(refusal(reply(claims, &request, is_open).await.1).0, name, "{request:?}");
    }
    let (_, largest) = reply(&some, &upload(UPLOAD_BYTES), true).await;
    assert!(matches!(largest, Command::Upload { .. }));
}

#[tokio::test]
async fn an_input_that_was_stored_for_the_job_has_a_new_url() {
    const SUM: &str = "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=";
    let path = "/claims/tenant1/inputs/ba7816bf8f01cfea414140de5dae2223";
    let (claims, _) = claims(&[(
        "/claims/tenant1/inputs/ba7816bf8f01cfea414140de5dae2223",
        &[("x-amz-checksum-sha256", SUM)],
    )]);
    let (_, command) = reply(&claims, &Request::Download, true).await;
    let Command::Download { input_ref, .. } = command else { panic!() };
    assert_eq!(format!("/{}/{}", input_ref.bucket, input_ref.key), path);
    assert!(input_ref.url.contains(path));
    // printf abc | sha256sum
    let sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(input_ref.sha256.as_deref(), Some(sum));
}

#[tokio::test]
async fn an_input_elsewhere_is_the_object_that_the_dispatchers_note_names() {
    // The key is a.csv in base64.
    let (claims, heads) = claims(&[
        (
            "/claims/tenant1/inputs/ba7816bf8f01cfea414140de5dae2223",
            &[("x-amz-meta-from-bucket", "exports"), ("x-amz-meta-from-key", "YS5jc3Y=")],
        ),
        ("/exports/a.csv", &[]),
    ]);
    let (_, command) = reply(&claims, &Request::Download, true).await;
    let Command::Download { input_ref, .. } = command else { panic!() };
    assert_eq!((&*input_ref.bucket, &*input_ref.key), ("exports", "a.csv"));
    assert_eq!(heads.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn an_input_that_is_gone_fails_the_job_by_name() {
    let (claims, _) = claims(&[]);
    let (error, cause) = refusal(reply(&claims, &Request::Download, true).await.1);
    assert_eq!(error, INPUT_UNAVAILABLE);
    assert!(cause.contains("tenant1/inputs/ba7816bf8f01cfea414140de5dae2223"), "{cause}");
}

#[test]
fn only_a_message_that_passed_the_rule_can_ask() {
    let job_id = TaskToken::parse("abc").unwrap().job_id();
    for (tenant, worker) in [
        (None, Some("w")),
        (Some("t"), None),
        (Some("t/x"), Some("w")),
        (Some("t"), Some("w/x")),
        (Some("t"), Some("+")),
        (Some("t"), Some("cancel")),
    ] {
        assert!(Asker::new(&job_id, tenant, worker).is_none(), "{tenant:?} {worker:?}");
    }
}

#[test]
fn a_result_is_only_where_the_jobs_own_upload_goes() {
    let (claims, _) = claims(&[]);
    let result = |bucket: &str, key: &str| ResultRef {
        bucket: bucket.into(),
        key: key.into(),
        bytes: 7,
        sha256: "ab".repeat(32),
        content_type: "text/csv".into(),
    };
    let own = result("claims", "tenant1/ba7816bf8f01cfea414140de5dae2223");
    assert_eq!(claims.check(Some(&asker()), &own), Ok(()));

    for (bucket, key) in [
        ("exports", "tenant1/ba7816bf8f01cfea414140de5dae2223"),
        ("claims", "tenant2/ba7816bf8f01cfea414140de5dae2223"),
        ("claims", "tenant1/00000000000000000000000000000000"),
        ("claims", "tenant1/inputs/ba7816bf8f01cfea414140de5dae2223"),
    ] {
        let failure = claims.check(Some(&asker()), &result(bucket, key)).unwrap_err();
        assert_eq!(failure.error(), Answer::INVALID, "{bucket}/{key}");
    }
    assert!(claims.check(None, &own).is_err(), "the message did not pass the rule");
    assert!(claims.check(Some(&asker()), &ResultRef { sha256: "x".into(), ..own.clone() }).is_err());
    let none = Claims { bucket: None, commands: Sent::default() };
    assert!(none.check(Some(&asker()), &own).is_err(), "there is no bucket");
}
