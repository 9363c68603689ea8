//! Which requests the function serves: signatures made by Pushpin with each kind of key, and the publish token.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD as BASE64URL};
use postern_pushpin::{get, post};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::error::Error as WsError;

use crate::client::within_timeout;
use crate::echo::function::{PUBLISHER, SECRET, Stack};

/// Asserts that the client sees the function's refusal of everything that needs a signature.
async fn assert_refused(stack: &Stack) {
    match stack.connect_to("/").await {
        Err(WsError::Http(response)) => assert_eq!(response.status(), 403),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("the connection was accepted"),
    }
    for path in ["/poll", "/stream"] {
        assert_eq!(stack.get(path).await.status, 403);
    }
}

#[tokio::test]
async fn a_wrong_secret_or_issuer_is_refused() {
    let variables = [("GRIP_VERIFY_KEY", "another"), ("GRIP_VERIFY_ISS", "pushpin")];
    assert_refused(&Stack::with(&variables, "pushpin", SECRET).await).await;
    let variables = [("GRIP_VERIFY_KEY", SECRET), ("GRIP_VERIFY_ISS", "pushpin")];
    assert_refused(&Stack::with(&variables, "another", SECRET).await).await;
}

#[tokio::test]
async fn without_the_proxy_only_a_publisher_is_served() {
    let stack = Stack::start().await;
    for path in ["/", "/poll"] {
        assert_eq!(within_timeout(get(stack.backend.address(), path)).await.unwrap().status, 403);
    }
    for (authorization, status) in [(None, 401), (Some("Bearer changeme"), 401), (Some(PUBLISHER), 200)] {
        let publish = post(stack.backend.address(), "/publish", authorization, b"news");
        assert_eq!(within_timeout(publish).await.unwrap().status, status);
    }
}

#[tokio::test]
async fn a_publication_through_the_proxy_needs_the_token() {
    let stack = Stack::start().await;
    for authorization in [None, Some("Bearer changeme"), Some("Basic b25seTpmb3I=")] {
        let publish = post(stack.pushpin.clients(), "/publish", authorization, b"news");
        let answer = within_timeout(publish).await.unwrap();
        assert_eq!(
            (answer.status.as_u16(), &answer.headers["www-authenticate"]),
            (401, &"Bearer".parse().unwrap())
        );
    }
    stack.publish_text("news").await;
}

/// A new key pair: the private key in a file, as Pushpin's configuration names it, and the public key as a JWK.
fn es256(directory: &tempfile::TempDir, name: &str) -> (String, String) {
    let random = SystemRandom::new();
    let pair = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let file = directory.path().join(name);
    let lines = BASE64.encode(pair.as_ref());
    let lines: Vec<_> = lines.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"));
    std::fs::write(&file, pem).unwrap();

    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pair.as_ref(), &random).unwrap();
    let url = |part: &[u8]| BASE64URL.encode(part);
    let point = pair.public_key().as_ref();
    let (x, y) = (url(&point[1..33]), url(&point[33..]));
    let public = format!(r#"{{"kty":"EC","crv":"P-256","x":"{x}","y":"{y}"}}"#);
    (format!("file:{}", file.display()), public)
}

/// Asserts that a client can send, receive and listen.
async fn assert_served(stack: &Stack) {
    let mut client = stack.listener().await;
    client.send("signed").await;
    assert_eq!(client.next().await, Message::text("signed"));
    stack.publish_text("news").await;
    assert_eq!(client.next().await, Message::text("news"));
}

#[tokio::test]
async fn es256_signatures_are_verified_and_other_keys_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (private, public) = es256(&directory, "one.pem");
    let (other, _) = es256(&directory, "two.pem");
    let variables = [("GRIP_VERIFY_KEY", &*public), ("GRIP_VERIFY_ISS", "fanout")];

    assert_served(&Stack::with(&variables, "fanout", &private).await).await;
    assert_refused(&Stack::with(&variables, "fanout", &other).await).await;
    // A secret cannot sign for a function that verifies with a public key.
    assert_refused(&Stack::with(&variables, "fanout", "changeme").await).await;
}

#[tokio::test]
async fn rs256_signatures_are_verified_and_other_keys_refused() {
    // `rs256.pem` is the public half of this private key. `another.pem` belongs to another one.
    let private =
        concat!("file:", env!("CARGO_MANIFEST_DIR"), "/../functions/grip-echo/testdata/rs256.private.pem");
    let public = include_str!("../../../functions/grip-echo/testdata/rs256.pem");
    let variables = [("GRIP_VERIFY_KEY", public), ("GRIP_VERIFY_ISS", "pushpin")];

    assert_served(&Stack::with(&variables, "pushpin", private).await).await;
    let public = include_str!("../../../functions/grip-echo/testdata/another.pem");
    let variables = [("GRIP_VERIFY_KEY", public), ("GRIP_VERIFY_ISS", "pushpin")];

    assert_refused(&Stack::with(&variables, "pushpin", private).await).await;
}
