use std::cell::RefCell;
use std::path::Path;
use std::time::Duration;

use grip::Key;
use grip::channels::{Grant, Identity, JwtAuthorizer};
use postern_runtime::env::Environment;
use serde_json::{Value, json};

use super::*;

/// A proxy that keeps what is published, or fails with the given error.
#[derive(Default)]
struct Proxy {
    published: RefCell<Vec<Item>>,
    fails: Option<PublishError>,
}

impl Publish for Proxy {
    async fn publish(&self, item: Item) -> Result<(), PublishError> {
        if let Some(error) = &self.fails {
            return Err(error.clone());
        }
        self.published.borrow_mut().push(item);
        Ok(())
    }
}

/// A signature of the secret `changeme` and one of another secret. Both expire in 2100.
const SIGNATURE: &str = include_str!("../../testdata/changeme.jwt");
const OTHER_SIGNATURE: &str = include_str!("../../testdata/other.jwt");

const PUBLISH_TOKEN: &str = "only-for-this-test";

fn config(list: &[(&str, &str)]) -> Config {
    Config::from_env(&Environment::of(list)).unwrap()
}

async fn ask(proxy: &Proxy, config: &Config, event: &Value) -> Result<Value, Error> {
    let event = RawValue::from_string(event.to_string()).unwrap();
    let answer = handle(proxy, config, &event).await?;
    Ok(serde_json::to_value(answer).unwrap())
}

fn request(method: &str, path: &str, headers: &Value, body: &str) -> Value {
    json!({"version": "2.0", "rawPath": path, "headers": headers, "body": body,
        "requestContext": {"http": {"method": method}}})
}

fn events(headers: &Value, body: &str) -> Value {
    let mut request = request("POST", "/", headers, body);
    request["headers"]["content-type"] = json!("application/websocket-events");
    request["headers"]["connection-id"] = json!("c1");
    request
}

#[tokio::test]
async fn an_opening_is_accepted_and_subscribed() {
    let config = config(&[("GRIP_PREFIX", "app-")]);
    let answer = ask(&Proxy::default(), &config, &events(&json!({}), "OPEN\r\n")).await.unwrap();

    assert_eq!(answer["statusCode"], 200);
    assert_eq!(answer["headers"]["sec-websocket-extensions"], "grip");
    assert_eq!(answer["body"], "OPEN\r\nTEXT 2b\r\nc:{\"type\":\"subscribe\",\"channel\":\"app-echo\"}\r\n");
}

#[tokio::test]
async fn polls_and_streams_listen_to_the_channel() {
    let config = config(&[("GRIP_PREFIX", "app-")]);
    for (path, hold) in [("/poll", "response"), ("/stream", "stream")] {
        let event = request("GET", path, &json!({}), "");
        let answer = ask(&Proxy::default(), &config, &event).await.unwrap();
        assert_eq!(
            (&answer["headers"]["grip-hold"], &answer["headers"]["grip-channel"]),
            (&json!(hold), &json!("app-echo"))
        );
    }
}

#[tokio::test]
async fn a_request_that_is_not_grip_gets_400() {
    for event in [
        request("GET", "/", &json!({}), ""),
        request("POST", "/", &json!({}), "OPEN\r\n"),
        request("PUT", "/", &json!({"content-type": "application/websocket-events"}), "OPEN\r\n"),
        events(&json!({}), "TEXT -7\r\n"),
        events(&json!({}), "TEXT 5\r\nhel"),
    ] {
        let answer = ask(&Proxy::default(), &config(&[]), &event).await.unwrap();
        assert_eq!(answer["statusCode"], 400);
        assert_eq!(answer["headers"]["content-type"], "text/plain");
        assert_eq!(answer["body"], "Not a WebSocket-over-HTTP request\n");
    }
}

#[tokio::test]
async fn with_a_key_only_the_proxys_requests_are_served() {
    let strict = config(&[("GRIP_VERIFY_KEY", "changeme"), ("GRIP_VERIFY_ISS", "pushpin")]);
    let by_url = config(&[("GRIP_URL", "http://127.0.0.1:5561/?verify-key=changeme&verify-iss=pushpin")]);
    let lenient = config(&[("GRIP_VERIFY_KEY", "changeme"), ("GRIP_REQUIRE_SIGNATURE", "false")]);
    let closed = config(&[("GRIP_REQUIRE_SIGNATURE", "true")]);
    let (none, good) = (json!({}), json!({"grip-sig": SIGNATURE.trim()}));
    let bad = json!({"grip-sig": OTHER_SIGNATURE.trim()});

    for (config, headers, status) in [
        (&strict, &good, 200),
        (&strict, &none, 403),
        (&strict, &bad, 403),
        (&by_url, &good, 200),
        (&by_url, &none, 403),
        (&lenient, &good, 200),
        (&lenient, &none, 200),
        (&lenient, &bad, 403),
        (&closed, &good, 403),
        (&closed, &none, 403),
    ] {
        for event in [events(headers, "OPEN\r\n"), request("GET", "/poll", headers, "")] {
            let answer = ask(&Proxy::default(), config, &event).await.unwrap();
            assert_eq!(answer["statusCode"], status, "{answer}");
        }
    }
}

fn bearer(token: &str) -> Value {
    json!({"authorization": format!("Bearer {token}")})
}

#[tokio::test]
async fn only_a_caller_with_the_publish_token_may_publish() {
    let strict = config(&[("GRIP_VERIFY_KEY", "changeme"), ("GRIP_PUBLISH_TOKEN", PUBLISH_TOKEN)]);
    let without_key = config(&[("GRIP_PUBLISH_TOKEN", PUBLISH_TOKEN)]);
    let lower_case = json!({"authorization": format!("bearer {PUBLISH_TOKEN}")});
    let basic = json!({"authorization": format!("Basic {PUBLISH_TOKEN}")});
    let mut signed = bearer(PUBLISH_TOKEN);
    signed["grip-sig"] = json!(SIGNATURE.trim());

    for (config, headers, status) in [
        (&strict, &bearer(PUBLISH_TOKEN), 200),
        (&strict, &lower_case, 200),
        (&strict, &signed, 200),
        (&without_key, &bearer(PUBLISH_TOKEN), 200),
        (&strict, &json!({}), 401),
        (&strict, &json!({"authorization": PUBLISH_TOKEN}), 401),
        (&strict, &bearer("only-for-this-tesT"), 401),
        (&strict, &bearer(""), 401),
        (&strict, &bearer(SIGNATURE.trim()), 401),
        (&strict, &basic, 401),
        (&without_key, &json!({}), 401),
    ] {
        let proxy = Proxy::default();
        let answer = ask(&proxy, config, &request("POST", "/publish", headers, "news")).await.unwrap();
        let published = proxy.published.borrow().len();

        assert_eq!(
            (&answer["statusCode"], published),
            (&json!(status), usize::from(status == 200)),
            "{headers}"
        );
        assert_eq!(answer["headers"]["www-authenticate"] == json!("Bearer"), status == 401);
    }
}

#[tokio::test]
async fn a_channel_token_publishes_only_to_the_channels_that_it_names() {
    let config = config(&[("GRIP_CHANNEL_KEY", "channel key"), ("GRIP_PUBLISH_TOKEN", PUBLISH_TOKEN)]);
    let issuer = JwtAuthorizer::new(Key::parse("channel key").unwrap());
    let grip_echo = issuer.clone().audience("grip-echo");
    let stranger = JwtAuthorizer::new(Key::parse("another key").unwrap()).audience("grip-echo");
    let token = |by: &JwtAuthorizer, channel: &str, action, seconds| {
        let grants = vec![Grant::new(channel, [action])];
        let publisher = Identity { grants, ..Identity::default() };
        by.issue(&publisher, Duration::from_secs(seconds)).unwrap()
    };

    for (token, status) in [
        (token(&grip_echo, "echo", Action::Publish, 60), 200),
        (PUBLISH_TOKEN.to_owned(), 200),
        (token(&grip_echo, "other", Action::Publish, 60), 403),
        (token(&grip_echo, "echo", Action::Subscribe, 60), 403),
        (token(&grip_echo, "echo", Action::Publish, 0), 401),
        (token(&issuer, "echo", Action::Publish, 60), 401),
        (token(&stranger, "echo", Action::Publish, 60), 401),
    ] {
        let proxy = Proxy::default();
        let event = request("POST", "/publish", &bearer(&token), "news");
        let answer = ask(&proxy, &config, &event).await.unwrap();
        let published = proxy.published.borrow().len();
        assert_eq!((&answer["statusCode"], published), (&json!(status), usize::from(status == 200)));
    }
}

/// The proxy signs every request that it forwards, so its signature proves nothing about the publisher.
#[tokio::test]
async fn the_proxys_signature_alone_does_not_allow_to_publish() {
    let config = config(&[("GRIP_VERIFY_KEY", "changeme"), ("GRIP_PUBLISH_TOKEN", PUBLISH_TOKEN)]);
    let proxy = Proxy::default();
    let event = request("POST", "/publish", &json!({"grip-sig": SIGNATURE.trim()}), "news");

    let answer = ask(&proxy, &config, &event).await.unwrap();
    assert_eq!((&answer["statusCode"], proxy.published.borrow().len()), (&json!(401), 0));
}

#[tokio::test]
async fn without_a_publish_token_publishing_is_switched_off() {
    let config = config(&[("GRIP_VERIFY_KEY", "changeme"), ("GRIP_PUBLISH_TOKEN", "")]);
    for headers in [json!({}), bearer(""), bearer("changeme"), json!({"grip-sig": SIGNATURE.trim()})] {
        let proxy = Proxy::default();
        let answer = ask(&proxy, &config, &request("POST", "/publish", &headers, "news")).await.unwrap();
        assert_eq!((&answer["statusCode"], proxy.published.borrow().len()), (&json!(403), 0));
        assert_eq!(
            answer["body"],
            "Publishing is switched off: neither GRIP_PUBLISH_TOKEN nor GRIP_CHANNEL_KEY is set\n"
        );
    }
}

#[tokio::test]
async fn the_publish_token_does_not_replace_the_proxys_signature() {
    let config = config(&[("GRIP_VERIFY_KEY", "changeme"), ("GRIP_PUBLISH_TOKEN", PUBLISH_TOKEN)]);
    let mut on_publish = events(&bearer(PUBLISH_TOKEN), "OPEN\r\n");
    on_publish["rawPath"] = json!("/publish");

    for event in [
        events(&bearer(PUBLISH_TOKEN), "OPEN\r\n"),
        on_publish,
        request("GET", "/poll", &bearer(PUBLISH_TOKEN), ""),
        request("GET", "/publish", &bearer(PUBLISH_TOKEN), ""),
    ] {
        let answer = ask(&Proxy::default(), &config, &event).await.unwrap();
        assert_eq!(answer["statusCode"], 403, "{event}");
    }
}

#[tokio::test]
async fn a_publication_has_a_form_for_every_kind_of_listener() {
    let config = config(&[("GRIP_PUBLISH_TOKEN", PUBLISH_TOKEN)]);
    let proxy = Proxy::default();
    ask(&proxy, &config, &request("POST", "/publish", &bearer(PUBLISH_TOKEN), "news")).await.unwrap();

    let item = proxy.published.borrow()[0].json("app-");
    assert_eq!(item["channel"], "app-echo");
    assert_eq!(item["formats"]["ws-message"], json!({"type": "text", "content": "news"}));
    assert_eq!(item["formats"]["http-stream"], json!({"content-bin": "bmV3cw=="}));
    assert_eq!(item["formats"]["http-response"]["body"], "news");
}

#[tokio::test]
async fn a_body_that_is_not_utf8_is_published_as_binary() {
    let config = config(&[("GRIP_PUBLISH_TOKEN", PUBLISH_TOKEN)]);
    let proxy = Proxy::default();
    let mut event = request("POST", "/publish", &bearer(PUBLISH_TOKEN), "/w==");
    event["isBase64Encoded"] = json!(true);
    ask(&proxy, &config, &event).await.unwrap();

    let item = proxy.published.borrow()[0].json("");
    assert_eq!(item["formats"]["ws-message"], json!({"type": "binary", "content-bin": "/w=="}));
    assert_eq!(item["formats"]["http-response"]["body-bin"], "/w==");
}

#[tokio::test]
async fn a_failed_publication_fails_the_invocation_unless_it_is_too_large() {
    let config = config(&[("GRIP_PUBLISH_TOKEN", PUBLISH_TOKEN)]);
    let event = request("POST", "/publish", &bearer(PUBLISH_TOKEN), "news");

    let unreachable = PublishError::Unreachable("Connection refused".to_owned());
    let proxy = Proxy { fails: Some(unreachable), ..Proxy::default() };
    assert_eq!(ask(&proxy, &config, &event).await.unwrap_err().name(), "GripEcho.PublishFailed");

    let proxy = Proxy { fails: Some(PublishError::TooLarge(2_000_000)), ..Proxy::default() };
    let answer = ask(&proxy, &config, &event).await.unwrap();
    assert_eq!(answer["statusCode"], 413);
    assert_eq!(answer["body"], "The publication has 2000000 bytes; at most 1000000 are allowed\n");

    let error = ask(&Proxy::default(), &config, &json!({"Records": []})).await.unwrap_err();
    assert_eq!(error.name(), "GripEcho.InvalidEvent");
}

#[tokio::test]
async fn a_prefix_that_cannot_be_sent_fails_the_invocation() {
    let in_header = config(&[("GRIP_PREFIX", "a,b")]);
    let error =
        ask(&Proxy::default(), &in_header, &request("GET", "/poll", &json!({}), "")).await.unwrap_err();
    assert_eq!(error.name(), "GripEcho.InvalidPrefix");

    let long = "x".repeat(grip::CONTROL_BYTES);
    let too_long = config(&[("GRIP_PREFIX", &long)]);
    let error = ask(&Proxy::default(), &too_long, &events(&json!({}), "OPEN\r\n")).await.unwrap_err();
    assert_eq!(error.name(), "GripEcho.InvalidPrefix");
}

#[tokio::test]
async fn a_client_may_ask_for_requests_while_it_is_idle() {
    for (query, expected) in [
        ("keep-alive=20", json!("20")),
        ("a=b&keep-alive=60", json!("60")),
        ("keep-alive=x", json!(null)),
        ("", json!(null)),
    ] {
        let mut event = events(&json!({}), "OPEN\r\n");
        event["rawQueryString"] = json!(query);

        let answer = ask(&Proxy::default(), &config(&[]), &event).await.unwrap();
        assert_eq!(answer["headers"]["keep-alive-interval"], expected, "{query}");
    }
}

/// The last word of a sample event's file name is its kind, which decides the expected answer.
#[tokio::test]
async fn every_sample_event_is_answered() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../events/grip-echo");
    let config = config(&[]);
    let mut kinds = 0;

    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let event: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();

        let answer = ask(&Proxy::default(), &config, &event).await.unwrap();
        let headers = match answer["multiValueHeaders"].as_object() {
            Some(headers) if !headers.is_empty() => answer["multiValueHeaders"].to_string(),
            _ => answer["headers"].to_string(),
        };
        let body = answer["body"].as_str().unwrap();

        let (status, header, start) = match name.rsplit('-').next().unwrap() {
            "open" => (200, "websocket-events", "OPEN\r\nTEXT"),
            "text" => (200, "websocket-events", "TEXT 7\r\nm:hello\r\n"),
            "binary" => (200, "websocket-events", "QklOQVJZIDUNCm06AP7/DQo="),
            "ping" => (200, "websocket-events", "PONG 4\r\nbeat\r\n"),
            "close" => (200, "websocket-events", "Q0xPU0UgNQ0KD6FieWUNCg=="),
            "pong" | "disconnect" | "alive" => (200, "websocket-events", ""),
            "poll" => (200, "grip-hold", "nothing yet\n"),
            "stream" => (200, "grip-hold", "opened\n"),
            "publish" => (403, "text/plain", "Publishing is switched off"),
            "body" => (200, "websocket-events", "OPEN\r\nTEXT 27"),
            "grip" => (400, "text/plain", "Not a WebSocket-over-HTTP request\n"),
            other => panic!("the test has no expectation for the kind {other}"),
        };

        assert_eq!(answer["statusCode"], status, "{name}");
        assert!(headers.contains(header), "{name}: {headers}");
        assert!(body.starts_with(start), "{name}: {body}");
        assert_eq!(body.is_empty(), start.is_empty(), "{name}: {body}");
        kinds += 1;
    }
    assert_eq!(kinds, 57, "eleven kinds in five forms, and two kinds of a REST API alone");
}
