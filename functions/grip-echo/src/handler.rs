use std::convert::Infallible;

use grip::lambda::{Event, InvalidEvent, LambdaResponse};
use grip::{
    ControlTooLarge, GripUrl, Hold, HttpStream, InvalidHold, Item, KeepAlive, Key, Origin, PUBLISH_BYTES,
    PublishError, Publisher, Verifier, WebSocket, WsMessage,
};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use postern_runtime::env::{Environment, InvalidVariable};
use postern_runtime::{NamedError, metrics};
use serde_json::value::RawValue;

/// What everybody listens to.
const CHANNEL: &str = "echo";

/// How long a long-poll waits, in seconds.
const POLL_SECONDS: u32 = 30;

/// How long a stream may be silent, in seconds.
const STREAM_SECONDS: u32 = 25;

/// The function's environment.
pub(crate) struct Config {
    /// `GRIP_URL`: the proxy's control endpoint and keys.
    pub(crate) url: GripUrl,
    /// `GRIP_PREFIX`: what channels' names start with at the proxy.
    pub(crate) prefix: String,
    /// `GRIP_VERIFY_KEY`, `GRIP_VERIFY_ISS` (else those in `GRIP_URL`), `GRIP_REQUIRE_SIGNATURE` (on if there
    /// is a key).
    verifier: Verifier,
}

impl Config {
    pub(crate) fn read(environment: &Environment<'_>) -> Result<Self, InvalidVariable> {
        let text = |text: &str| Ok::<_, Infallible>(text.to_owned());
        let url = environment.parse("GRIP_URL", "http://127.0.0.1:5561/", GripUrl::parse)?;
        let prefix = environment.parse_optional("GRIP_PREFIX", "myapp-", text)?.unwrap_or_default();
        let key = environment.parse_optional("GRIP_VERIFY_KEY", "base64:c2VjcmV0", Key::parse)?;
        let key = key.or_else(|| url.verify_key().cloned());
        let issuer = environment.parse_optional("GRIP_VERIFY_ISS", "pushpin", text)?;
        let issuer = issuer.or_else(|| url.verify_issuer().map(str::to_owned));
        let required = environment.parse_optional("GRIP_REQUIRE_SIGNATURE", "true", str::parse)?;
        let required = required.unwrap_or(key.is_some());
        let mut verifier = key.map_or_else(Verifier::default, Verifier::new);
        if let Some(issuer) = issuer {
            verifier = verifier.issuer(issuer);
        }
        if required {
            verifier = verifier.required();
        }
        Ok(Self { url, prefix, verifier })
    }
}

/// Everything that is not the client's fault; the rest is an HTTP status.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    InvalidEvent(#[from] InvalidEvent),
    #[error("{0}")]
    PublishFailed(#[from] PublishError),
    #[error("{0}")]
    InvalidPrefix(#[from] InvalidHold),
    #[error("{0}")]
    PrefixTooLong(#[from] ControlTooLarge),
}

impl NamedError for Error {
    fn name(&self) -> &'static str {
        match self {
            Self::InvalidEvent(_) => "GripEcho.InvalidEvent",
            Self::PublishFailed(_) => "GripEcho.PublishFailed",
            Self::InvalidPrefix(_) | Self::PrefixTooLong(_) => "GripEcho.InvalidPrefix",
        }
    }
}

/// What the handler needs of the proxy.
pub(crate) trait Publish {
    async fn publish(&self, item: Item) -> Result<(), PublishError>;
}

impl Publish for Publisher {
    async fn publish(&self, item: Item) -> Result<(), PublishError> {
        self.publish(&[item]).await
    }
}

/// Answers an HTTP event of any of the services that make them.
pub(crate) async fn handle(
    proxy: &impl Publish,
    config: &Config,
    event: &RawValue,
) -> Result<LambdaResponse, Error> {
    let (request, reply) = Event::parse(event.get())?.into_request()?;
    let response = match config.verifier.check(request.headers()) {
        Ok(Origin::Unknown(Some(problem))) => refused(&problem),
        Err(problem) if !may_publish(config, &request) => refused(&problem),
        Ok(_) | Err(_) => answer(proxy, config, &request).await?,
    };
    Ok(reply.response(response))
}

fn refused(problem: &impl std::fmt::Display) -> Response<Vec<u8>> {
    metrics::count("GripRefused");
    tracing::warn!("refused: {problem}");
    text(StatusCode::FORBIDDEN, "The request is not signed by the GRIP proxy\n")
}

async fn answer(
    proxy: &impl Publish,
    config: &Config,
    request: &Request<Vec<u8>>,
) -> Result<Response<Vec<u8>>, Error> {
    match (request.method(), request.uri().path()) {
        _ if WebSocket::is_claimed_by(request) => echo(config, request),
        (&Method::GET, "/poll") => {
            let nothing = text(StatusCode::OK, "nothing yet\n");
            Ok(Hold::response(POLL_SECONDS).prefixed(&config.prefix).channel(CHANNEL).apply(nothing)?)
        }
        (&Method::GET, "/stream") => {
            let hold = Hold::stream().prefixed(&config.prefix).channel(CHANNEL);
            let hold = hold.keep_alive(KeepAlive::new("\n", STREAM_SECONDS));
            Ok(hold.apply(text(StatusCode::OK, "opened\n"))?)
        }
        (&Method::POST, "/publish") => publish(proxy, config, request).await,
        _ => Ok(text(StatusCode::BAD_REQUEST, "Not a WebSocket-over-HTTP request\n")),
    }
}

fn echo(config: &Config, request: &Request<Vec<u8>>) -> Result<Response<Vec<u8>>, Error> {
    let mut ws = match WebSocket::read(request) {
        Ok(ws) => ws.prefixed(&config.prefix),
        Err(problem) => {
            tracing::warn!("refused: {problem}");
            return Ok(problem.to_response());
        }
    };
    if ws.is_opening() {
        metrics::count("GripOpened");
        ws.accept();
        ws.subscribe(CHANNEL)?;
        if let Some(seconds) = keep_alive(request) {
            ws.set_keep_alive_interval(seconds);
        }
    }
    while let Some(message) = ws.recv() {
        ws.send(message);
    }
    Ok(ws.to_response())
}

/// `?keep-alive=20`: how often the client wants the function asked about an idle connection, in seconds.
/// Every time is an invocation, so that nobody is asked who does not want it.
fn keep_alive(request: &Request<Vec<u8>>) -> Option<u32> {
    let query = request.uri().query()?;
    query.split('&').find_map(|pair| pair.strip_prefix("keep-alive="))?.parse().ok()
}

/// Whether the caller has shown a key: the proxy's signature, or a token of the same key as
/// `Authorization: Bearer`. Without a key nobody has.
fn may_publish(config: &Config, request: &Request<Vec<u8>>) -> bool {
    if request.uri().path() != "/publish" || WebSocket::is_claimed_by(request) {
        return false;
    }
    let bearer = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = bearer.and_then(|value| value.split_once(' '));
    let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token);
    token.is_some_and(|token| config.verifier.check_token(token).is_ok())
        || config.verifier.check(request.headers()) == Ok(Origin::Proxy)
}

async fn publish(
    proxy: &impl Publish,
    config: &Config,
    request: &Request<Vec<u8>>,
) -> Result<Response<Vec<u8>>, Error> {
    if !may_publish(config, request) {
        return Ok(refused(&"a publication needs the proxy's signature, or a token of the same key"));
    }
    let body = request.body();
    let message = match std::str::from_utf8(body) {
        Ok(text) => WsMessage::text(text),
        Err(_) => WsMessage::binary(body),
    };
    let mut polled = text(StatusCode::OK, "");
    polled.body_mut().clone_from(body);
    let item = Item::new(CHANNEL).websocket(message).stream(HttpStream::binary(body)).response(&polled)?;
    match proxy.publish(item).await {
        Ok(()) => {}
        Err(PublishError::TooLarge(bytes)) => {
            let problem = format!("The publication has {bytes} bytes; at most {PUBLISH_BYTES} are allowed\n");
            return Ok(text(StatusCode::PAYLOAD_TOO_LARGE, &problem));
        }
        Err(error) => return Err(error.into()),
    }
    metrics::count("GripPublished");
    tracing::info!(bytes = body.len(), "published");
    Ok(text(StatusCode::OK, "Published\n"))
}

fn text(status: StatusCode, text: &str) -> Response<Vec<u8>> {
    let mut response = Response::new(text.as_bytes().to_vec());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

#[cfg(test)]
#[path = "handler_tests.rs"]
mod tests;
