//! The page's WebSocket.

use grip::Key;
use grip::channels::{Grant, Identity, JwtAuthorizer};
use postern_runtime::rotation::BETWEEN_READS;

use super::*;

/// A `Grip-Sig` header that is signed with the secret `changeme` and expires in 2100.
const SIGNATURE: &str = include_str!("../../../../grip-echo/testdata/changeme.jwt");

const LIVE: [(&str, &str); 4] = [
    ("LIVE_URL", "wss://proxy.example/live"),
    ("GRIP_VERIFY_KEY", "changeme"),
    ("GRIP_CHANNEL_KEY", "a-secret-for-tickets"),
    ("GRIP_PREFIX", "postern-"),
];

async fn live(services: &Services) -> TestApi<'_> {
    api_with(services, &LIVE).await
}

fn ticket(body: &Value) -> Sent {
    post("/live-ticket").body(body)
}

/// A request of the proxy, as which a client opens a connection.
fn open(channel: &str, protocols: &str) -> Sent {
    request("POST", &format!("/live?channel={channel}"))
        .header("grip-sig", SIGNATURE.trim())
        .header("connection-id", "c1")
        .header("sec-websocket-protocol", protocols)
        .text("application/websocket-events", "OPEN\r\n")
}

#[tokio::test]
async fn a_ticket_opens_its_channel_and_no_other() {
    let services = Services::default();
    let api = live(&services).await;
    let issued = ticket(&json!({})).to(&api).await;
    assert_eq!((issued.status, &issued.json["channel"]), (200, &json!("jobs-tenant1")));
    let protocols = format!("postern-live.1, ticket.{}", issued.json["ticket"].as_str().unwrap());

    let opened = open("jobs-tenant1", &protocols).to(&api).await;
    assert_eq!((opened.status, &opened.headers["sec-websocket-protocol"]), (200, &json!("postern-live.1")));
    assert!(
        opened.text.starts_with("OPEN\r\n") && opened.text.contains(r#""channel":"postern-jobs-tenant1""#),
        "{opened:?}"
    );

    for channel in
        ["jobs-tenant2", "job-0123456789abcdef0123456789abcdef", "", "jobs-tenant1&channel=jobs-tenant2"]
    {
        let refused = open(channel, &protocols).to(&api).await;
        assert!(
            !refused.text.contains("subscribe") && refused.text.contains("CLOSE"),
            "{channel}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn a_ticket_for_a_job_needs_a_job_of_the_tenant() {
    let services = Services::default();
    let api = live(&services).await;
    let own = job(&api, "tenant1", "one", |_| {}).await;
    let other = job(&api, "tenant2", "two", |_| {}).await;

    let channel = format!("job-{own}");
    assert_eq!(ticket(&json!({"channel": channel})).to(&api).await.json["channel"], channel);
    assert_eq!(ticket(&json!({"channel": "jobs-tenant1"})).to(&api).await.status, 200);
    for channel in [format!("job-{other}"), "jobs-tenant2".to_owned(), "job-".to_owned(), "**".to_owned()] {
        assert_eq!(ticket(&json!({"channel": channel})).to(&api).await.problem(), "not-found", "{channel}");
    }
}

#[tokio::test]
async fn forged_expired_and_foreign_tickets_open_nothing() {
    let services = Services::default();
    let api = live(&services).await;
    let identity = Identity {
        grants: vec![Grant::new("jobs-tenant1", [grip::channels::Action::Subscribe])],
        ..Identity::default()
    };
    let issue = |key: &str, audience: &str, seconds| {
        let authorizer = JwtAuthorizer::new(Key::parse(key).unwrap()).audience(audience);
        authorizer.issue(&identity, std::time::Duration::from_secs(seconds)).unwrap()
    };
    let none = "eyJhbGciOiJub25lIn0.eyJleHAiOjk5OTk5OTk5OTksImF1ZCI6ImpvYnMtYXBpIiwiY2hhbm5lbHMiOlt7Im1hdGNoIjoiam9icy10ZW5hbnQxIiwiZG8iOlsic3Vic2NyaWJlIl19XX0.";
    for ticket in [
        String::new(),
        none.to_owned(),
        issue("another-secret", "jobs-api", 100_000_000),
        issue("a-secret-for-tickets", "grip-echo", 100_000_000),
    ] {
        let answer = open("jobs-tenant1", &format!("postern-live.1, ticket.{ticket}")).to(&api).await;
        assert!(!answer.text.contains("subscribe") && answer.text.contains("CLOSE"), "{ticket}: {answer:?}");
    }
    let valid = issue("a-secret-for-tickets", "jobs-api", 100_000_000);
    let answer = open("jobs-tenant1", &format!("postern-live.1, ticket.{valid}")).to(&api).await;
    assert!(answer.text.contains("subscribe"), "{answer:?}");

    let long_after = "2050-01-01T00:00:00Z".parse().unwrap();
    let answer = open("jobs-tenant1", &format!("postern-live.1, ticket.{valid}")).at(&api, long_after).await;
    assert!(!answer.text.contains("subscribe") && answer.text.contains("CLOSE"), "{answer:?}");
}

#[tokio::test]
async fn a_request_that_the_proxy_did_not_sign_is_refused() {
    let services = Services::default();
    let api = live(&services).await;
    for signature in ["", "a.b.c"] {
        let answer = open("jobs-tenant1", "").header("grip-sig", signature).to(&api).await;
        assert_eq!((answer.status, answer.problem()), (403, "forbidden"));
    }
}

#[tokio::test]
async fn what_a_client_sends_is_ignored() {
    let services = Services::default();
    let api = live(&services).await;
    let text = "TEXT 2B\r\nc:{\"type\":\"subscribe\",\"channel\":\"jobs-x\"}\r\n";
    let sent = open("jobs-tenant1", "").text("application/websocket-events", text).to(&api).await;
    assert!(!sent.text.contains("subscribe"), "{sent:?}");
}

#[tokio::test]
async fn without_a_proxy_there_is_neither_a_ticket_nor_an_address() {
    let services = Services::default();
    let api = api(&services).await;
    assert_eq!(ticket(&json!({})).to(&api).await.problem(), "not-found");
    assert_eq!(open("jobs-tenant1", "").to(&api).await.problem(), "not-found");
    assert_eq!(request("GET", "/config.json").to(&api).await.json["live"], json!(null));
    assert_eq!(
        get("/session").to(&api).await.json,
        json!({"tenant": "tenant1", "roles": ["viewer"], "live": false})
    );

    let api = live(&services).await;
    assert_eq!(request("GET", "/config.json").to(&api).await.json["live"], "wss://proxy.example/live");
}

/// The proxy's secret with a key that verifies its signature, or another one, and a key for tickets.
fn secret(verify_key: &str, ticket_key: &str) -> String {
    json!({"GRIP_VERIFY_KEY": verify_key, "GRIP_CHANNEL_KEY": ticket_key}).to_string()
}

/// The API of a function that read the first of two versions of its secret a while ago.
async fn rotated<'a>(services: &'a Services, before: &str, after: &str) -> TestApi<'a> {
    let versions = Secrets(RefCell::new([before, after].map(str::to_owned).to_vec()));
    let variables = [("LIVE_URL", "wss://proxy.example/live"), ("GRIP_SECRET", "arn:grip")];
    api_that_read(services, &variables, versions, Instant::now().checked_sub(BETWEEN_READS).unwrap()).await
}

#[tokio::test]
async fn a_rotated_key_of_the_proxy_is_read_when_a_signature_does_not_match() {
    let services = Services::default();
    let api = rotated(&services, &secret("before", "a-key"), &secret("changeme", "a-key")).await;
    let protocols = format!("ticket.{}", ticket(&json!({})).to(&api).await.json["ticket"].as_str().unwrap());

    // The only other read was at the start: a third one would panic.
    for _ in 0..2 {
        let opened = open("jobs-tenant1", &format!("postern-live.1, {protocols}")).to(&api).await;
        assert!(opened.text.contains("subscribe"), "{opened:?}");
    }
    let forged = open("jobs-tenant1", "").header("grip-sig", "a.b.c").to(&api).await;
    assert_eq!(forged.status, 403);
}

#[tokio::test]
async fn a_ticket_of_an_instance_that_has_the_rotated_key_opens_its_channel() {
    let services = Services::default();
    let api = rotated(&services, &secret("changeme", "before"), &secret("changeme", "after")).await;
    let other = api_with(&services, &[LIVE[0], LIVE[1], ("GRIP_CHANNEL_KEY", "after")]).await;
    let ticket = ticket(&json!({})).to(&other).await.json["ticket"].as_str().unwrap().to_owned();

    let opened = open("jobs-tenant1", &format!("postern-live.1, ticket.{ticket}")).to(&api).await;
    assert!(opened.text.contains("subscribe"), "{opened:?}");
}
