//! The application: its page, its tokens, and the channels below `/channels`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use grip::Publisher;
use grip::channels::{Action, CLIENT_JS, Channels, Grant, Identity, JwtAuthorizer, Store};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

/// How long a token is valid. The page gets a new one before each connection.
const TOKEN_LIFE: Duration = Duration::from_hours(1);

/// The longest name of a user, in characters.
const NAME_CHARS: usize = 40;

/// The chat.
pub(crate) struct App<S> {
    channels: Channels<S, Publisher, JwtAuthorizer>,
    tokens: JwtAuthorizer,
}

impl<S: Store> App<S> {
    pub(crate) fn new(channels: Channels<S, Publisher, JwtAuthorizer>, tokens: JwtAuthorizer) -> Self {
        Self { channels: channels.stamp(signed), tokens }
    }

    /// Answers a request. All requests come through the proxy.
    pub(crate) async fn answer(&self, request: &Request<Vec<u8>>) -> Response<Vec<u8>> {
        let path = request.uri().path();
        if let Some(below) = path.strip_prefix("/channels") {
            return self.channels.serve(below, request).await;
        }

        match (request.method(), path) {
            (&Method::GET, "/") => {
                text(StatusCode::OK, "text/html; charset=utf-8", include_str!("page.html"))
            }
            (&Method::GET, "/grip-channels.js") => text(StatusCode::OK, "text/javascript", CLIENT_JS),
            (&Method::POST, "/token") => self.token(request),
            _ => text(StatusCode::NOT_FOUND, "text/plain", "There is nothing here.\n"),
        }
    }

    /// Gives a token to every client that sends a name. An application with accounts would check a password here.
    fn token(&self, request: &Request<Vec<u8>>) -> Response<Vec<u8>> {
        let asked: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        let name = asked["name"].as_str().unwrap_or_default().trim();
        if name.is_empty() || name.chars().count() > NAME_CHARS {
            let problem = format!("a name has 1 to {NAME_CHARS} characters\n");
            return text(StatusCode::BAD_REQUEST, "text/plain", &problem);
        }

        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let user = Identity {
            subject: Some(name.to_owned()),
            token_id: Some(format!("{name}.{}", since.as_nanos())),
            grants: vec![Grant::new("room.*", [Action::Subscribe, Action::Publish, Action::Presence])],
            expires: None,
        };

        match self.tokens.issue(&user, TOKEN_LIFE) {
            Some(token) => text(StatusCode::OK, "application/json", &json!({ "token": token }).to_string()),
            None => text(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "CHAT_KEY is not a secret.\n"),
        }
    }
}

/// A message with the name of its author, which comes from the token: a client cannot write under another name.
fn signed(author: &Identity, message: &str) -> Option<String> {
    let mut message: Value = serde_json::from_str(message).ok()?;
    message.as_object_mut()?.insert("from".to_owned(), author.subject.clone()?.into());
    Some(message.to_string())
}

fn text(status: StatusCode, kind: &'static str, body: &str) -> Response<Vec<u8>> {
    let mut response = Response::new(body.as_bytes().to_vec());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
