use std::cell::{Cell, RefCell};
use std::time::Duration;

use postern_runtime::rotation::BETWEEN_READS;
use postern_runtime::secrets::{UnreadableSecret, Version};
use serde_json::{Value, json};

use super::*;

/// A signature of the secret `changeme`. It expires in 2100.
const SIGNATURE: &str = include_str!("../../testdata/changeme.jwt");

const NAMED: &[(&str, &str)] = &[("GRIP_SECRET", "arn"), ("GRIP_REQUIRE_SIGNATURE", "true")];

/// AWS Secrets Manager with one secret, and the number of reads.
#[derive(Default)]
struct Safe {
    text: RefCell<String>,
    reads: Cell<u32>,
}

impl Safe {
    fn put(&self, secret: &Value) {
        *self.text.borrow_mut() = secret.to_string();
    }
}

impl ReadSecret for &Safe {
    async fn read(&self, _id: &str, _version: Version) -> Result<Option<String>, UnreadableSecret> {
        self.reads.set(self.reads.get() + 1);
        Ok(Some(self.text.borrow().clone()))
    }
}

async fn start<'a>(
    safe: &'a Safe,
    variables: &'static [(&'static str, &'static str)],
    now: Instant,
) -> Result<Echo<&'a Safe>, ConfigError> {
    Echo::start(move || Environment::of(variables), |_| Ok(safe), now).await
}

fn request(method: &str, path: &str, headers: &Value) -> Box<RawValue> {
    let event = json!({"version": "2.0", "rawPath": path, "headers": headers, "body": "news",
        "requestContext": {"http": {"method": method}}});
    RawValue::from_string(event.to_string()).unwrap()
}

fn status(response: Result<LambdaResponse, Error>) -> i64 {
    serde_json::to_value(response.unwrap()).unwrap()["statusCode"].as_i64().unwrap()
}

#[tokio::test]
async fn a_rotated_key_is_read_when_a_signature_does_not_match() {
    let (safe, start_time) = (Safe::default(), Instant::now());
    safe.put(&json!({"GRIP_VERIFY_KEY": "before"}));
    let echo = start(&safe, NAMED, start_time).await.unwrap();
    let poll = request("GET", "/poll", &json!({"grip-sig": SIGNATURE.trim()}));
    assert_eq!(status(echo.handle(&poll, start_time).await), 403);

    safe.put(&json!({"GRIP_VERIFY_KEY": "changeme"}));
    assert_eq!(status(echo.handle(&poll, start_time + BETWEEN_READS).await), 200);
    assert_eq!(status(echo.handle(&poll, start_time + BETWEEN_READS).await), 200);
    assert_eq!(safe.reads.get(), 2, "the secret is read at the start and after the failed check");
}

#[tokio::test]
async fn a_rotated_publish_token_is_read_when_a_publisher_is_refused() {
    let (safe, start_time) = (Safe::default(), Instant::now());
    safe.put(&json!({"GRIP_PUBLISH_TOKEN": "the-token-before-it"}));
    let echo = start(&safe, NAMED, start_time).await.unwrap();

    // The new address refuses connections at once, so that the accepted publication fails there.
    safe.put(&json!({"GRIP_PUBLISH_TOKEN": "the-token-after-it", "GRIP_URL": "http://127.0.0.1:1/"}));
    let publish = request("POST", "/publish", &json!({"authorization": "Bearer the-token-after-it"}));
    assert_eq!(status(echo.handle(&publish, start_time).await), 401);
    let published = echo.handle(&publish, start_time + BETWEEN_READS).await;
    assert!(matches!(published, Err(Error::PublishFailed(PublishError::Unreachable(_)))));
}

#[tokio::test]
async fn requests_that_fail_the_check_make_the_function_read_the_secret_twice_a_minute_at_most() {
    let (safe, start_time) = (Safe::default(), Instant::now());
    safe.put(&json!({"GRIP_VERIFY_KEY": "changeme"}));
    let echo = start(&safe, NAMED, start_time).await.unwrap();
    let unsigned = request("GET", "/poll", &json!({}));

    for second in 0..60 {
        assert_eq!(status(echo.handle(&unsigned, start_time + Duration::from_secs(second)).await), 403);
    }
    assert_eq!(safe.reads.get(), 2);
}

#[tokio::test]
async fn a_secret_that_became_invalid_leaves_the_one_before_in_use() {
    let (safe, start_time) = (Safe::default(), Instant::now());
    safe.put(&json!({"GRIP_VERIFY_KEY": "changeme"}));
    let echo = start(&safe, NAMED, start_time).await.unwrap();
    safe.put(&json!({"GRIP_VERIFY_KEY": 7}));

    let later = start_time + BETWEEN_READS;
    assert_eq!(status(echo.handle(&request("GET", "/poll", &json!({})), later).await), 403);
    let signed = request("GET", "/poll", &json!({"grip-sig": SIGNATURE.trim()}));
    assert_eq!(status(echo.handle(&signed, later).await), 200);
}

#[tokio::test]
async fn without_a_secret_the_environment_is_the_configuration() {
    let safe = Safe::default();
    let variables = &[("GRIP_VERIFY_KEY", "changeme")];
    let echo = start(&safe, variables, Instant::now()).await.unwrap();

    let later = Instant::now() + BETWEEN_READS;
    assert_eq!(status(echo.handle(&request("GET", "/poll", &json!({})), later).await), 403);
    assert_eq!(safe.reads.get(), 0);
}

#[tokio::test]
async fn an_unusable_secret_is_reported_without_its_content() {
    let safe = Safe::default();
    for (secret, problem) in [
        (json!("hidden"), "must be a JSON object"),
        (json!({"GRIP_URL": "hidden"}), "GRIP_URL"),
        (json!({"GRIP_PUBLISH_TOKEN": "hidden"}), "GRIP_PUBLISH_TOKEN"),
    ] {
        safe.put(&secret);
        let Err(error) = start(&safe, NAMED, Instant::now()).await else { panic!("{secret} was accepted") };
        let error = error.to_string();
        assert!(error.contains(problem) && !error.contains("hidden"), "{error}");
    }
}
