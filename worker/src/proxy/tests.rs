use std::collections::HashMap;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use proptest::prelude::*;

use super::*;

fn proxy(url: &str) -> Proxy {
    url.parse().unwrap()
}

#[test]
fn a_url_gives_host_port_and_credentials() {
    let full = proxy("http://us%40er:p%3Aass@proxy.example:8080/");
    assert_eq!((full.host.as_str(), full.port), ("proxy.example", 8080));
    assert_eq!(full.credentials, Some(("us@er".into(), "p:ass".into())));
    assert_eq!(proxy("proxy.example").to_string(), "proxy.example:3128");
}

#[test]
fn a_url_that_is_none_is_refused() {
    for url in
        ["", "http://", "https://proxy:443", "http://proxy:0", "http://proxy:x", "http://a%0d%0ab:c@proxy:1"]
    {
        assert!(url.parse::<Proxy>().is_err(), "{url}");
    }
}

#[test]
fn the_password_is_in_the_request_and_nowhere_else() {
    let proxy = proxy("http://user:secret@proxy:3128");
    let request = proxy.request("endpoint:8883");
    assert_eq!(
        request,
        "CONNECT endpoint:8883 HTTP/1.1\r\nHost: endpoint:8883\r\nProxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n\r\n"
    );

    assert!(!format!("{proxy} {proxy:?}").contains("secret"));
}

#[test]
fn the_environment_names_a_proxy_and_exempts_hosts() {
    let choose = |host: &str, variables: &[(&str, &str)]| {
        let variables: HashMap<String, String> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Proxy::from_environment(host, |name| variables.get(name).cloned())
            .unwrap()
            .map(|proxy| proxy.to_string())
    };
    let named = ("HTTPS_PROXY", "http://proxy:3128");

    assert_eq!(choose("a.example", &[named]).as_deref(), Some("proxy:3128"));
    assert_eq!(choose("a.example", &[("https_proxy", "small:1"), named]).as_deref(), Some("small:1"));
    assert_eq!(choose("a.example", &[("HTTPS_PROXY", " ")]), None);
    for exempt in
        ["*", "a.example", "example", ".example", "*.example", "b.example, A.EXAMPLE", "a.example:8883"]
    {
        assert_eq!(choose("a.example", &[named, ("NO_PROXY", exempt)]), None, "{exempt}");
    }
    for other in ["b.example", "xample", "a.example.org", "", ","] {
        assert!(choose("a.example", &[named, ("no_proxy", other)]).is_some(), "{other}");
    }
}

/// What comes of a proxy that answers so, and what is left in the stream.
async fn tunnel(answer: &str) -> (Result<(), ProxyError>, String) {
    let (mut near, mut far) = tokio::io::duplex(MAX_ANSWER * 2);
    far.write_all(answer.as_bytes()).await.unwrap();
    far.shutdown().await.unwrap();
    let result = proxy("http://u:p@proxy:3128").open_tunnel(&mut near, "endpoint:443").await;
    let mut left = String::new();
    let _ = near.read_to_string(&mut left).await;
    (result, left)
}

#[tokio::test]
async fn a_tunnel_leaves_what_follows_the_answer_in_the_stream() {
    let (result, left) = tunnel("HTTP/1.0 200 Connection established\r\nVia: x\r\n\r\nTLS").await;
    assert!(result.is_ok());
    assert_eq!(left, "TLS");
}

#[tokio::test]
async fn an_answer_that_opens_no_tunnel_is_explained() {
    for (answer, words) in [
        ("HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\n\r\n", "HTTP 407, Negotiate"),
        ("HTTP/1.1 403 Forbidden\r\n\r\n", "to endpoint:443: it answered HTTP/1.1 403 Forbidden"),
        ("SSH-2.0-OpenSSH\r\n\r\n", "does not answer like an HTTP proxy"),
        ("HTTP/1.1 200 OK\r\n", "broke"),
        (&"x".repeat(MAX_ANSWER), "does not answer like an HTTP proxy"),
    ] {
        let error = tunnel(answer).await.0.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

proptest! {
    #[test]
    fn any_user_and_password_survive_the_url(user in "[^\r\n:]{1,20}", password in "[^\r\n]{0,20}") {
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let proxy = proxy(&format!("http://{}:{}@proxy:1", encode(&user), encode(&password)));
        prop_assert_eq!(proxy.credentials, Some((user, password)));
    }

    #[test]
    fn no_text_makes_the_parser_panic(url in "\\PC{0,60}") {
        let _ = url.parse::<Proxy>();
    }
}
