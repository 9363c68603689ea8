use std::sync::Mutex;

use bytes::Bytes;
use http::Response;
use postern_testing::LoopbackServer;

use super::*;

/// A server that gives these answers, one after the other, and the last one again and again.
fn server(answers: &'static [(u16, &'static str)]) -> LoopbackServer {
    let given = Mutex::new(0);
    LoopbackServer::start(move |request| {
        let authorization = request.headers()["authorization"].to_str().unwrap();
        assert!(authorization.contains("/eu-west-1/secretsmanager/aws4_request"), "{authorization}");
        assert_eq!(request.headers()["x-amz-security-token"], "session");
        assert_eq!(request.headers()["x-amz-target"], "secretsmanager.GetSecretValue");

        let mut given = given.lock().unwrap();
        let (status, body) = answers[answers.len().min(*given + 1) - 1];
        *given += 1;
        Response::builder().status(status).body(Bytes::from_static(body.as_bytes())).unwrap()
    })
}

async fn read(server: LoopbackServer, version: Version) -> Result<Option<String>, String> {
    let url = server.url();
    let variables = [
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ENDPOINT_URL", &*url),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_SESSION_TOKEN", "session"),
    ];
    let manager = SecretsManager::from_env(&Environment::of(&variables)).unwrap();
    manager.read("arn:the-secret", version).await.map_err(|error| error.to_string())
}

const SECRET: (u16, &str) = (200, r#"{"Name":"n","SecretString":"the text"}"#);

#[tokio::test]
async fn a_secret_is_read_with_a_signed_request() {
    assert_eq!(read(server(&[SECRET]), Version::Current).await, Ok(Some("the text".into())));
}

#[tokio::test]
async fn a_throttled_or_failed_attempt_is_repeated() {
    const ANSWERS: &[(u16, &str)] = &[(400, r#"{"__type":"ThrottlingException"}"#), (503, "busy"), SECRET];
    assert_eq!(read(server(ANSWERS), Version::Current).await, Ok(Some("the text".into())));
}

/// The answers to the attempts, and the reason of the error.
const FAILURES: &[(&[(u16, &str)], &str)] = &[
    (&[(500, r#"{"__type":"InternalServiceError"}"#)], "InternalServiceError (HTTP 500)"),
    (&[(400, r#"{"__type":"a.b#AccessDeniedException"}"#), SECRET], "AccessDeniedException (HTTP 400)"),
    (&[(400, r#"{"__type":"ResourceNotFoundException"}"#)], "ResourceNotFoundException (HTTP 400)"),
    (&[(200, r#"{"SecretBinary":"aGlkZGVu"}"#)], "it is binary; store it as text"),
    (&[(200, "hidden")], "the answer is not one of AWS Secrets Manager"),
];

#[tokio::test]
async fn a_failure_is_reported_with_its_code_and_status() {
    for (answers, reason) in FAILURES {
        let expected = format!("the secret arn:the-secret cannot be read: {reason}");
        assert_eq!(read(server(answers), Version::Current).await, Err(expected));
    }
}

#[tokio::test]
async fn a_secret_that_was_never_rotated_has_no_previous_version() {
    let answers: &[_] = &[(400, r#"{"__type":"ResourceNotFoundException"}"#)];
    assert_eq!(read(server(answers), Version::Previous).await, Ok(None));
}
