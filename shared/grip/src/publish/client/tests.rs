use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::key::Key;
use crate::publish::WsMessage;
use crate::signature::Verifier;

/// A control endpoint that reads one request, sends `answer`, and returns the request's text.
async fn control_endpoint(answer: &'static str) -> (String, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("127.0.0.1:{}", listener.local_addr().unwrap().port());
    let served = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"]}") {
            assert_ne!(socket.read_buf(&mut request).await.unwrap(), 0, "the request ended before its items");
        }
        socket.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(request).unwrap()
    });
    (address, served)
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nPublished\n";

fn item() -> [Item; 1] {
    [Item::new("echo").websocket(WsMessage::text("hi"))]
}

async fn publish(url: String) -> Result<(), PublishError> {
    Publisher::new(&GripUrl::parse(&url).unwrap()).unwrap().prefixed("app-").publish(&item()).await
}

#[tokio::test]
async fn items_are_posted_below_the_control_address() {
    let (address, served) = control_endpoint(OK).await;
    publish(format!("http://{address}/service/1/?x=y")).await.unwrap();
    let request = served.await.unwrap();

    assert!(request.starts_with("POST /service/1/publish/?x=y HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("content-type: application/json\r\n"));
    assert!(!request.contains("authorization"));
    let body: serde_json::Value = serde_json::from_str(request.split("\r\n\r\n").nth(1).unwrap()).unwrap();

    assert_eq!(body["items"][0]["channel"], "app-echo");
}

#[tokio::test]
async fn each_kind_of_authentication_is_sent() {
    for (url, expected) in [
        (("http://", "/?key=secret"), "authorization: Bearer secret\r\n"),
        (("http://me:secret@", "/"), "authorization: Basic bWU6c2VjcmV0\r\n"),
    ] {
        let (address, served) = control_endpoint(OK).await;
        publish(format!("{}{address}{}", url.0, url.1)).await.unwrap();
        assert!(served.await.unwrap().contains(expected));
    }

    let (address, served) = control_endpoint(OK).await;
    publish(format!("http://{address}/?iss=me&key=secret")).await.unwrap();
    let request = served.await.unwrap();
    let token = request.lines().find_map(|line| line.strip_prefix("authorization: Bearer ")).unwrap();
    let headers = http::HeaderMap::from_iter([(
        http::header::HeaderName::from_static("grip-sig"),
        HeaderValue::from_str(token).unwrap(),
    )]);
    let verifier = Verifier::new(Key::parse("secret").unwrap()).issuer("me").required();

    assert!(verifier.check(&headers).is_ok());
}

#[tokio::test]
async fn each_failure_has_its_own_error() {
    let (address, _served) =
        control_endpoint("HTTP/1.1 400 Bad Request\r\nContent-Length: 23\r\n\r\nInvalid format: items\n\n")
            .await;
    assert_eq!(
        publish(format!("http://{address}")).await,
        Err(PublishError::Refused { status: 400, message: "Invalid format: items".to_owned() })
    );
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let error = publish(format!("http://127.0.0.1:{closed}")).await.unwrap_err().to_string();
    assert!(error.starts_with("the control endpoint cannot be reached: Connection refused"), "{error}");

    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = GripUrl::parse(&format!("http://127.0.0.1:{}", silent.local_addr().unwrap().port())).unwrap();
    let publisher = Publisher::new(&url).unwrap().timeout(Duration::from_millis(1));
    assert_eq!(publisher.publish(&item()).await, Err(PublishError::TimedOut(Duration::from_millis(1))));

    let large = Item::new("echo").websocket(WsMessage::text("x".repeat(PUBLISH_BYTES)));
    assert!(matches!(publisher.publish(&[large]).await, Err(PublishError::TooLarge(_))));
}

#[tokio::test]
async fn a_refusal_is_shortened_to_200_characters_of_its_first_line() {
    let answer = format!("HTTP/1.1 403 No\r\nContent-Length: 303\r\n\r\n{}\nb", "a".repeat(301));
    let (address, _served) = control_endpoint(answer.leak()).await;
    assert_eq!(
        publish(format!("http://{address}")).await,
        Err(PublishError::Refused { status: 403, message: "a".repeat(200) })
    );
}

#[tokio::test]
async fn a_token_that_a_header_cannot_carry_is_a_configuration_error() {
    let url = "http://127.0.0.1:1/?key=a%0Ab".to_owned();
    assert_eq!(publish(url).await, Err(PublishError::Configuration));
}
