mod tls;

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::config::handlers::Secret;

const OK: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 11\r\n\r\n{\"a\": 1.50}";

/// A server that gives every request the same response and keeps the text of the requests.
struct Service {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Service {
    async fn start(response: impl Into<Vec<u8>>, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let service = Self { port: listener.local_addr().unwrap().port(), requests: Arc::default() };
        let (requests, response) = (Arc::clone(&service.requests), Arc::new(response.into()));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (requests, response, tls) = (Arc::clone(&requests), Arc::clone(&response), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, &requests, &response).await,
                        // A client that does not trust the server ends the connection.
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, &requests, &response).await;
                            }
                        }
                    }
                });
            }
        });
        service
    }

    fn handler(&self, change: impl FnOnce(&mut config::Http)) -> Http {
        let mut config = section(&format!("http://127.0.0.1:{}/api", self.port));
        change(&mut config);
        Http::new(config).unwrap()
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// Answers one request and closes. A response that is empty never comes.
async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    requests: &Mutex<Vec<String>>,
    response: &[u8],
) {
    let mut text = Vec::new();
    while !is_complete(&text) {
        let mut part = [0; 4_096];
        match stream.read(&mut part).await {
            Ok(0) | Err(_) => return,
            Ok(count) => text.extend_from_slice(&part[..count]),
        }
    }
    requests.lock().unwrap().push(String::from_utf8(text).unwrap());
    if response.is_empty() {
        std::future::pending::<()>().await;
    }
    // A client that has read enough closes first.
    let _ = stream.write_all(response).await;
    let _ = stream.shutdown().await;
}

fn is_complete(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
    body.len() >= length.map_or(0, |length| length.parse().unwrap())
}

fn section(base_url: &str) -> config::Http {
    config::Http {
        base_url: base_url.into(),
        methods: ["GET", "POST"].map(String::from).into(),
        headers: [("authorization".into(), Secret::Text("Bearer hunter2".into()))].into(),
        accept_status: Vec::new(),
        ca: None,
        client_cert: None,
        client_key: None,
        policy: None,
        timeout_seconds: 60,
    }
}

async fn run(handler: &Http, input: Value) -> Result<Value, TaskFailure> {
    let result = handler.run(JobContext::for_test(&input)).await?;
    Ok(serde_json::from_str(result.get()).unwrap())
}

#[tokio::test]
async fn the_parts_of_the_input_arrive_in_their_places() {
    let service = Service::start(OK, None).await;
    let handler = service.handler(|_| {});
    let input = json!({
        "method": "POST", "path": "orders/ä b", "query": {"day": "2026-11-01", "id": [1, "a&b=c"], "none": null},
        "headers": {"x-trace": "7"}, "body": {"total": 1}
    });
    let result = handler.run(JobContext::for_test(&input)).await.unwrap();
    assert!(result.get().ends_with(r#""body":{"a": 1.50}}"#), "the body keeps its text: {result}");
    assert!(result.get().starts_with(r#"{"status":200,"headers":{"content-length":"11""#), "{result}");

    let request = service.requests().remove(0);
    assert!(
        request.starts_with("POST /api/orders/%C3%A4%20b?day=2026-11-01&id=1&id=a%26b%3Dc HTTP/1.1\r\n"),
        "{request}"
    );
    for line in [
        "x-trace: 7",
        "authorization: Bearer hunter2",
        "content-type: application/json",
        "accept-encoding: identity",
        &format!("host: 127.0.0.1:{}", service.port),
        "idempotency-key: ",
    ] {
        assert!(request.contains(&format!("\r\n{line}")), "{line} is not in {request}");
    }
    assert!(request.ends_with("\r\n\r\n{\"total\":1}"), "{request}");
}

#[tokio::test]
async fn a_body_of_another_type_is_the_text_itself() {
    let service = Service::start(OK, None).await;
    let handler = service.handler(|_| {});
    let text = |body: Value| json!({"method": "POST", "headers": {"Content-Type": "text/csv"}, "body": body});
    run(&handler, text(json!("a,b\n"))).await.unwrap();
    assert!(service.requests()[0].ends_with("\r\n\r\na,b\n"));
    assert_eq!(run(&handler, text(json!({}))).await.unwrap_err().error(), "Worker.InvalidInput");
}

#[tokio::test]
async fn no_input_leaves_the_host_the_path_or_the_message() {
    let service = Service::start(OK, None).await;
    let handler = service.handler(|_| {});
    let path = |path: &str| json!({"path": path});
    let header = |name: &str, value: &str| json!({"headers": {name: value}});

    for input in [
        path("../admin"),
        path("a/../../admin"),
        path("./a"),
        path(".."),
        path("a/.."),
        path("/admin"),
        path("//evil.example/"),
        path("a//b"),
        path("..\\admin"),
        path("a\\..\\b"),
        path("a\r\nHost: evil"),
        path("a\0b"),
        path("a\tb"),
        header("host", "evil.example"),
        header("Host", "evil.example"),
        header("content-length", "0"),
        header("Transfer-Encoding", "chunked"),
        header("connection", "upgrade"),
        header("te", "trailers"),
        header("x", "a\r\nHost: evil.example"),
        header("x", "a\nb"),
        header("x", "a\0b"),
        header("x: y\r\nz", "1"),
        header("", "1"),
        header("authorization", "Bearer mine"),
        header("Proxy-Authorization", "x"),
        header("idempotency-key", "x"),
        header("accept-encoding", "gzip"),
        header("forwarded", "for=1"),
        json!({"headers": {"x-a": "1", "X-A": "2"}}),
        json!({"method": "DELETE"}),
        json!({"method": "get"}),
        json!({"method": "GET / HTTP/1.1\r\nHost: evil"}),
        json!({"method": "CONNECT"}),
        json!({"method": ""}),
        json!({"url": "http://evil.example"}),
        json!({"query": {"a": {"b": 1}}}),
        json!({"query": "a=b"}),
        json!({"query": {"a": [[1]]}}),
        json!({"path": 1}),
        json!([]),
        json!("path"),
    ] {
        let failure = run(&handler, input.clone()).await.unwrap_err();
        assert_eq!(failure.error(), "Worker.InvalidInput", "{input}: {}", failure.cause());
    }
    assert!(service.requests().is_empty(), "nothing was sent");
}

#[tokio::test]
async fn what_looks_like_another_place_is_only_a_name() {
    let service = Service::start(OK, None).await;
    let handler = service.handler(|_| {});
    for (path, sent) in [
        ("http://evil.example/", None),
        ("http:evil.example", Some("http:evil.example")),
        ("@evil.example", Some("@evil.example")),
        ("a?b=c#d", Some("a%3Fb%3Dc%23d")),
        ("%2e%2e/admin", Some("%252e%252e/admin")),
        ("..;/admin", Some("..%3B/admin")),
        ("a%0d%0ab", Some("a%250d%250ab")),
        ("${HOME}", Some("%24%7BHOME%7D")),
        ("...", Some("...")),
        ("", Some("")),
        ("a/", Some("a/")),
    ] {
        let before = service.requests().len();
        let result = run(&handler, json!({"path": path, "query": {"a\r\nb": "c\r\nd"}})).await;
        match sent {
            None => assert_eq!(result.unwrap_err().error(), "Worker.InvalidInput"),
            Some(sent) => {
                result.unwrap();
                let request = &service.requests()[before];
                let line = format!("GET /api/{sent}?a%0D%0Ab=c%0D%0Ad HTTP/1.1\r\n");
                assert!(request.starts_with(&line), "{path}: {request}");
            }
        }
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Service::start(OK, None).await;
    for status in [301, 302, 303, 307, 308] {
        let target = format!("http://127.0.0.1:{}/", elsewhere.port);
        let response = format!("HTTP/1.1 {status} Moved\r\nlocation: {target}\r\ncontent-length: 0\r\n\r\n");
        let service = Service::start(response, None).await;
        let failure = run(&service.handler(|_| {}), json!({})).await.unwrap_err();
        assert_eq!(failure.error(), "Http.Redirect");
        assert!(failure.cause().contains(&target), "{}", failure.cause());
        let accepted =
            run(&service.handler(|config| config.accept_status = vec![status]), json!({})).await.unwrap();
        assert_eq!((&accepted["status"], &accepted["headers"]["location"]), (&json!(status), &json!(target)));
    }
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn a_refusal_is_a_failure_with_its_body_and_never_the_secret() {
    let response = "HTTP/1.1 404 Not Found\r\ncontent-length: 13\r\n\r\nno such order";
    let service = Service::start(response, None).await;
    let failure = run(&service.handler(|_| {}), json!({})).await.unwrap_err();
    assert_eq!(failure.error(), "Http.Status");
    assert_eq!(failure.cause(), "the service answered 404 Not Found: no such order");
    let accepted = run(&service.handler(|config| config.accept_status = vec![404]), json!({})).await.unwrap();
    assert_eq!(accepted["body"], "no such order");

    let config = service.handler(|_| {}).config;
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_body_is_json_text_or_base64() {
    let response = |head: &str, body: &[u8]| {
        let head = format!("HTTP/1.1 200 OK\r\n{head}content-length: {}\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    };
    for (response, name, expected) in [
        (response("content-type: application/problem+json; charset=utf-8\r\n", b"[1]"), "body", json!([1])),
        (response("content-type: application/json\r\n", b"{broken"), "body", json!("{broken")),
        (response("", "é".as_bytes()), "body", json!("é")),
        (response("", b""), "body", json!(null)),
        (response("content-type: application/json\r\n", b"\"\xff\""), "base64", json!("Iv8i")),
    ] {
        let service = Service::start(response, None).await;
        let result = run(&service.handler(|_| {}), json!({})).await.unwrap();
        assert_eq!(result.get(name), Some(&expected), "{result}");
    }
}

#[tokio::test]
async fn a_response_without_an_end_is_not_kept() {
    let mut response = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec();
    response.extend(vec![b'x'; 1_000_000]);
    let service = Service::start(response, None).await;
    let failure = run(&service.handler(|_| {}), json!({})).await.unwrap_err();
    assert_eq!(failure.error(), "Worker.ResultTooLarge");
}

#[tokio::test]
async fn a_service_that_is_away_breaks_off_or_never_answers_has_a_name() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let away = section(&format!("http://{}", listener.local_addr().unwrap()));
    drop(listener);
    let away = Http::new(away).unwrap();
    let failure = run(&away, json!({})).await.unwrap_err();
    assert_eq!(failure.error(), "Http.Unavailable");
    assert!(failure.cause().contains("refused"), "{}", failure.cause());
    assert!(away.check().await.unwrap_err().contains("refused"));

    let broken = Service::start("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort", None).await;
    assert_eq!(run(&broken.handler(|_| {}), json!({})).await.unwrap_err().error(), "Http.Broken");

    let silent = Service::start("", None).await;
    let slow = silent.handler(|config| config.timeout_seconds = 0);
    assert_eq!(run(&slow, json!({})).await.unwrap_err().error(), "Http.Timeout");
}

#[tokio::test]
async fn a_cancelled_job_aborts_its_request() {
    let silent = Service::start("", None).await;
    let handler = silent.handler(|_| {});
    let job = Arc::new(postern_types::JobMessage::parse(br#"{"TaskToken":"t","Input":{}}"#).unwrap());
    let cancel = tokio_util::sync::CancellationToken::new();
    let running = tokio::spawn({
        let context = JobContext::of(job, cancel.clone());
        async move { handler.run(context).await }
    });
    while silent.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    cancel.cancel();
    assert_eq!(running.await.unwrap().unwrap_err().error(), "Worker.Cancelled");
}

#[test]
fn a_section_that_cannot_work_is_refused() {
    for url in ["erp", "ftp://h/", "https://u:p@h/", "https://h/?a=b", "https://h/#a", "/api", "https:///"] {
        assert!(Http::new(section(url)).is_err_and(|problem| problem.contains("base_url")), "{url}");
    }
    for methods in [vec![], vec!["CONNECT".to_owned()], vec!["get".to_owned()]] {
        let config = config::Http { methods, ..section("http://h") };
        assert!(Http::new(config).is_err_and(|problem| problem.contains("methods")));
    }
    let secret = Secret::Text("a\r\nb".into());
    let config = config::Http { headers: [("x".into(), secret)].into(), ..section("http://h") };
    assert!(Http::new(config).is_err_and(|problem| problem.contains("headers.x")));
    let config = config::Http { accept_status: vec![200], ..section("http://h") };
    assert!(Http::new(config).is_err_and(|problem| problem.contains("accept_status")));
}
