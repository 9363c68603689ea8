use std::cell::RefCell;
use std::path::Path;

use serde_json::{Value, json};

use super::*;

/// Keeps what was published, or refuses it.
#[derive(Default)]
struct Proxy {
    published: RefCell<Vec<Item>>,
    refuse: Option<PublishError>,
}

impl Publish for Proxy {
    async fn publish(&self, item: Item) -> Result<(), PublishError> {
        if let Some(error) = &self.refuse {
            return Err(error.clone());
        }
        self.published.borrow_mut().push(item);
        Ok(())
    }
}

/// What a token of the secret `changeme` looks like that lasts until 2100, and one of another secret.
const TOKEN: &str = include_str!("../testdata/changeme.jwt");
const OTHER_TOKEN: &str = include_str!("../testdata/other.jwt");

fn config(list: &[(&str, &str)]) -> Config {
    Config::read(&Environment::of(list)).unwrap()
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
async fn what_is_not_grip_gets_400() {
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
async fn with_a_key_only_the_proxy_is_served() {
    let strict = config(&[("GRIP_VERIFY_KEY", "changeme"), ("GRIP_VERIFY_ISS", "pushpin")]);
    let by_url = config(&[("GRIP_URL", "http://127.0.0.1:5561/?verify-key=changeme&verify-iss=pushpin")]);
    let lenient = config(&[("GRIP_VERIFY_KEY", "changeme"), ("GRIP_REQUIRE_SIGNATURE", "false")]);
    let closed = config(&[("GRIP_REQUIRE_SIGNATURE", "true")]);
    let (none, good) = (json!({}), json!({"grip-sig": TOKEN.trim()}));
    let bad = json!({"grip-sig": OTHER_TOKEN.trim()});
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

#[tokio::test]
async fn whoever_shows_a_key_may_publish() {
    let strict = config(&[("GRIP_VERIFY_KEY", "changeme")]);
    let lenient = config(&[("GRIP_VERIFY_KEY", "changeme"), ("GRIP_REQUIRE_SIGNATURE", "false")]);
    let open = config(&[]);
    let signed = json!({"grip-sig": TOKEN.trim()});
    let bearer = json!({"authorization": format!("bearer {}", TOKEN.trim())});
    let wrong = json!({"authorization": format!("Bearer {}", OTHER_TOKEN.trim())});
    for (config, headers, status) in [
        (&strict, &signed, 200),
        (&strict, &bearer, 200),
        (&strict, &wrong, 403),
        (&strict, &json!({}), 403),
        (&strict, &json!({"authorization": "Bearer changeme"}), 403),
        (&lenient, &bearer, 200),
        (&lenient, &json!({}), 403),
        (&open, &signed, 403),
        (&open, &json!({}), 403),
    ] {
        let proxy = Proxy::default();
        let answer = ask(&proxy, config, &request("POST", "/publish", headers, "news")).await.unwrap();
        assert_eq!(
            (&answer["statusCode"], proxy.published.borrow().len()),
            (&json!(status), usize::from(status == 200))
        );
    }
    // A key to publish is no key to be taken for the proxy.
    let answer = ask(&Proxy::default(), &strict, &events(&bearer, "OPEN\r\n")).await.unwrap();
    assert_eq!(answer["statusCode"], 403);
}

#[tokio::test]
async fn a_publication_is_for_every_kind_of_listener() {
    let config = config(&[("GRIP_VERIFY_KEY", "changeme")]);
    let proxy = Proxy::default();
    let headers = json!({"grip-sig": TOKEN.trim()});
    ask(&proxy, &config, &request("POST", "/publish", &headers, "news")).await.unwrap();
    let item = proxy.published.borrow()[0].json("app-");
    assert_eq!(item["channel"], "app-echo");
    assert_eq!(item["formats"]["ws-message"], json!({"type": "text", "content": "news"}));
    assert_eq!(item["formats"]["http-stream"], json!({"content-bin": "bmV3cw=="}));
    assert_eq!(item["formats"]["http-response"]["body"], "news");
}

#[tokio::test]
async fn a_failed_publication_is_a_failed_invocation_unless_it_is_too_large() {
    let config = config(&[("GRIP_VERIFY_KEY", "changeme")]);
    let event = request("POST", "/publish", &json!({"grip-sig": TOKEN.trim()}), "news");
    let proxy = Proxy { refuse: Some(PublishError::Unreachable), ..Proxy::default() };
    assert_eq!(ask(&proxy, &config, &event).await.unwrap_err().name(), "GripEcho.PublishFailed");
    let proxy = Proxy { refuse: Some(PublishError::TooLarge(2_000_000)), ..Proxy::default() };
    assert_eq!(ask(&proxy, &config, &event).await.unwrap()["statusCode"], 413);
    let error = ask(&Proxy::default(), &config, &json!({"Records": []})).await.unwrap_err();
    assert_eq!(error.name(), "GripEcho.InvalidEvent");
}

#[test]
fn a_wrong_environment_is_named_without_its_keys() {
    for (name, value) in [
        ("GRIP_URL", "hidden"),
        ("GRIP_URL", "http://h/?verify-key=base64:hidden*"),
        ("GRIP_VERIFY_KEY", "base64:hidden*"),
        ("GRIP_REQUIRE_SIGNATURE", "hidden"),
    ] {
        let error = Config::read(&Environment::of(&[(name, value)])).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(name) && !error.contains("hidden"), "{error}");
    }
}

/// Every sample event is answered as its name says.
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
            "publish" => (403, "text/plain", "The request is not signed"),
            "body" => (200, "websocket-events", "OPEN\r\nTEXT 27"),
            "grip" => (400, "text/plain", "Not a WebSocket-over-HTTP request\n"),
            other => panic!("no one has said what to expect of {other}"),
        };
        assert_eq!(answer["statusCode"], status, "{name}");
        assert!(headers.contains(header), "{name}: {headers}");
        assert!(body.starts_with(start), "{name}: {body}");
        assert_eq!(body.is_empty(), start.is_empty(), "{name}: {body}");
        kinds += 1;
    }
    assert_eq!(kinds, 57, "five forms of eleven kinds, and two of a REST API's own");
}
