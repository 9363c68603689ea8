//! The handler: a WebSocket echo, a long-poll, a stream, and an endpoint that publishes to all of them.

use std::fmt::Display;
use std::time::SystemTime;

use grip::channels::{Action, ChannelAuthorizer as _};
use grip::lambda::{Event, InvalidEvent, LambdaResponse};
use grip::{
    ControlTooLarge, Hold, HttpStream, InvalidHold, Item, KeepAlive, Origin, PUBLISH_BYTES, PublishError,
    Publisher, WebSocket, WsMessage,
};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use http::{Method, Request, Response, StatusCode};
use postern_runtime::{NamedError, metrics};
use serde_json::value::RawValue;

use crate::config::Config;

/// The channel that every client listens to.
const CHANNEL: &str = "echo";

/// How long a long-poll waits, in seconds.
const POLL_SECONDS: u32 = 30;

/// How long a stream may be silent before the proxy sends a keep-alive, in seconds.
const STREAM_SECONDS: u32 = 25;

/// A failure of the function. A client's mistake is not a failure; the client receives an HTTP status.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    InvalidEvent(#[from] InvalidEvent),
    #[error(transparent)]
    PublishFailed(#[from] PublishError),
    #[error(transparent)]
    InvalidPrefix(#[from] InvalidHold),
    #[error(transparent)]
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

/// What the handler needs from the proxy's control endpoint.
pub(crate) trait Publish {
    async fn publish(&self, item: Item) -> Result<(), PublishError>;
}

impl Publish for Publisher {
    async fn publish(&self, item: Item) -> Result<(), PublishError> {
        self.publish(&[item]).await
    }
}

/// Answers an HTTP event of API Gateway, a function URL or a load balancer.
pub(crate) async fn handle(
    proxy: &impl Publish,
    config: &Config,
    event: &RawValue,
) -> Result<LambdaResponse, Error> {
    let (request, reply) = Event::parse(event.get())?.into_request()?;

    // A publisher presents a token. The proxy's signature proves nothing about the publisher, because the proxy signs
    // every request that it forwards. A publisher may also call the function directly.
    let response = if is_publication(&request) {
        publish(proxy, config, &request).await?
    } else {
        match config.verifier.check(request.headers()) {
            Ok(Origin::Proxy | Origin::Unknown(None)) => answer(config, &request)?,
            Ok(Origin::Unknown(Some(problem))) => unsigned(&problem),
            Err(problem) => unsigned(&problem),
        }
    };
    Ok(reply.response(response))
}

fn is_publication(request: &Request<Vec<u8>>) -> bool {
    request.method() == Method::POST
        && request.uri().path() == "/publish"
        && !WebSocket::is_claimed_by(request)
}

/// Refuses a request that the proxy did not sign.
fn unsigned(problem: &impl Display) -> Response<Vec<u8>> {
    metrics::count("GripRefused");
    tracing::warn!("refused a request: {problem}");
    text(StatusCode::FORBIDDEN, "The request is not signed by the GRIP proxy\n")
}

fn answer(config: &Config, request: &Request<Vec<u8>>) -> Result<Response<Vec<u8>>, Error> {
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
        _ => Ok(text(StatusCode::BAD_REQUEST, "Not a WebSocket-over-HTTP request\n")),
    }
}

fn echo(config: &Config, request: &Request<Vec<u8>>) -> Result<Response<Vec<u8>>, Error> {
    let mut ws = match WebSocket::read(request) {
        Ok(ws) => ws.prefixed(&config.prefix),
        Err(problem) => {
            tracing::warn!("refused a request: {problem}");
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

/// The value of `?keep-alive=20`: how often, in seconds, the proxy sends a request for an idle connection.
///
/// Each keep-alive invokes the function, so the proxy sends keep-alives only if the client asks for them.
fn keep_alive(request: &Request<Vec<u8>>) -> Option<u32> {
    let query = request.uri().query()?;
    query.split('&').find_map(|pair| pair.strip_prefix("keep-alive="))?.parse().ok()
}

/// Publishes the request's body to every kind of listener, if the caller's token allows it.
async fn publish(
    proxy: &impl Publish,
    config: &Config,
    request: &Request<Vec<u8>>,
) -> Result<Response<Vec<u8>>, Error> {
    if let Some(refusal) = refuse_publisher(config, request).await {
        return Ok(refusal);
    }

    let body = request.body();
    let message = match std::str::from_utf8(body) {
        Ok(text) => WsMessage::text(text),
        Err(_) => WsMessage::binary(body),
    };
    let mut polled = text(StatusCode::OK, "");
    polled.body_mut().clone_from(body);
    let item = Item::new(CHANNEL).websocket(message).stream(HttpStream::binary(body));
    let item = item.response(&polled).map_err(InvalidHold::from)?;

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

/// The response to a caller that may not publish: 403 if publishing is switched off or the token is for something else,
/// 401 without a valid token.
async fn refuse_publisher(config: &Config, request: &Request<Vec<u8>>) -> Option<Response<Vec<u8>>> {
    if config.publish_token.is_none() && config.authorizer.is_none() {
        tracing::warn!("refused a publication: neither GRIP_PUBLISH_TOKEN nor GRIP_CHANNEL_KEY is set");
        let problem = "Publishing is switched off: neither GRIP_PUBLISH_TOKEN nor GRIP_CHANNEL_KEY is set\n";
        return Some(refused(StatusCode::FORBIDDEN, problem));
    }

    let given = bearer(request);
    if config.publish_token.as_ref().zip(given).is_some_and(|(token, given)| token.matches(given)) {
        return None;
    }
    if let (Some(authorizer), Some(_)) = (&config.authorizer, given) {
        match authorizer.identify(given, SystemTime::now()).await {
            Ok(publisher) if authorizer.permits(&publisher, Action::Publish, CHANNEL) => return None,
            Ok(_) => {
                tracing::warn!("refused a publication: the channel token is not for the channel");
                return Some(refused(StatusCode::FORBIDDEN, "The token does not allow to publish here\n"));
            }
            Err(problem) => tracing::warn!("refused a publication: {problem}"),
        }
    } else {
        tracing::warn!("refused a publication: the bearer token is missing or wrong");
    }

    let problem = "Publishing needs the header \"Authorization: Bearer\" with the value of GRIP_PUBLISH_TOKEN, or \
                   with a token that GRIP_CHANNEL_KEY verifies\n";
    let mut refusal = refused(StatusCode::UNAUTHORIZED, problem);
    refusal.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    Some(refusal)
}

fn refused(status: StatusCode, problem: &str) -> Response<Vec<u8>> {
    metrics::count("GripRefused");
    text(status, problem)
}

/// The token in `Authorization: Bearer TOKEN`.
fn bearer(request: &Request<Vec<u8>>) -> Option<&str> {
    let (scheme, token) = request.headers().get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn text(status: StatusCode, text: &str) -> Response<Vec<u8>> {
    let mut response = Response::new(text.as_bytes().to_vec());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

#[cfg(test)]
mod tests;
