//! Channels over plain HTTP: long-polls and streams that continue where the client was, and publishing.

use std::fmt::Write as _;

use http::header::{ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Request, Response, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::access::{Action, ChannelAuthorizer, Denied, Identity};
use super::core::{Channels, ChannelsError, Proxy, server_sent};
use super::name;
use super::position::Position;
use super::store::{Entry, Replay, Store};
use super::wire;
use crate::hold::{Channel, Hold};
use crate::keep_alive::KeepAlive;

/// The most items in one response, and the most bytes of them. A long-poll's response stays within what the proxy holds.
const PAGE: usize = 500;
const PAGE_BYTES: usize = 90_000;

/// How long a stream may be silent before the proxy sends a comment, in seconds.
const STREAM_SECONDS: u32 = 25;

/// What a client missed, as far as one response has room.
struct Missed {
    items: Vec<(Position, String)>,
    lost: Option<Value>,
    /// The place after the last of the items.
    at: Position,
    more: bool,
}

impl<S: Store, P: Proxy, A: ChannelAuthorizer> Channels<S, P, A> {
    /// Answers a long-poll at once if the client missed something; otherwise lets the proxy hold it.
    pub(super) async fn poll(
        &self,
        request: &Request<Vec<u8>>,
        identity: &Identity,
        channel: &str,
    ) -> Result<Response<Vec<u8>>, ChannelsError> {
        // Both a request that the proxy repeats and the client's own request say which item was received last.
        let repeated = grip_last(request.headers(), &self.at_proxy(channel));
        let Some(asked) = parameter(request, "after") else {
            // A client without a position gets the newest items, if it asks for some, and polls again from there.
            let recent = parameter(request, "recent").and_then(|recent| recent.parse::<usize>().ok());
            return self.begin(channel, recent.unwrap_or_default().min(PAGE)).await;
        };
        let Ok(after) = asked.parse::<Position>() else { return Ok(self.forged()) };
        let Some(missed) = self.missed(channel, after).await? else { return Ok(self.forged()) };

        if !missed.items.is_empty() || missed.lost.is_some() {
            let items: Vec<String> = missed.items.into_iter().map(|(_, json)| json).collect();
            return Ok(self.polled(&items, missed.at, missed.lost));
        }

        // The proxy repeats the request if the position is not that of the last item that it has seen. If it has repeated
        // this request without a result, it must hold it without a position; the client's next poll finds the items that
        // were published in between.
        let mut listened = Channel::new(channel);
        if repeated != Some(missed.at) {
            listened = listened.prev_id(missed.at.to_string());
        }
        let hold = self.revocable(Hold::response(self.poll), identity).channel(listened);
        hold.apply(self.polled(&[], missed.at, None)).map_err(|error| ChannelsError::Response(error.into()))
    }

    /// Answers a long-poll that has no position yet.
    async fn begin(&self, channel: &str, recent: usize) -> Result<Response<Vec<u8>>, ChannelsError> {
        let entries = match recent {
            0 => Vec::new(),
            _ => self.store.recent(channel, recent).await?,
        };
        let at = match entries.last() {
            Some(newest) => newest.position,
            None => self.store.position(channel).await?,
        };
        let items: Vec<String> = entries.iter().map(|entry| wire::item(channel, entry)).collect();
        Ok(self.polled(&items, at, None))
    }

    /// Answers a stream with what the client missed, and lets the proxy continue it.
    pub(super) async fn stream(
        &self,
        request: &Request<Vec<u8>>,
        identity: &Identity,
        channel: &str,
    ) -> Result<Response<Vec<u8>>, ChannelsError> {
        let repeated = grip_last(request.headers(), &self.at_proxy(channel));
        let header = request.headers().get("last-event-id").and_then(|id| id.to_str().ok());
        let asked = header.map(str::to_owned).or_else(|| parameter(request, "after"));
        let after = match (repeated, asked) {
            (Some(last), _) => last,
            (None, None) => self.store.position(channel).await?,
            (None, Some(asked)) => match asked.parse() {
                Ok(position) => position,
                Err(_) => return Ok(self.forged()),
            },
        };
        let Some(missed) = self.missed(channel, after).await? else { return Ok(self.forged()) };

        let mut body = match (repeated, missed.items.is_empty()) {
            (None, true) => format!("id: {}\nevent: subscribed\ndata: {{}}\n\n", missed.at),
            _ => String::new(),
        };
        if let Some(lost) = &missed.lost {
            let _ = write!(body, "id: {}\nevent: lost\ndata: {lost}\n\n", lost["id"].as_str().unwrap_or("0"));
        }
        for (position, json) in &missed.items {
            body += &server_sent(*position, json);
        }

        let mut response = self.json(StatusCode::OK, body);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        let next = request.uri().path_and_query().map_or("/", |target| target.as_str());
        // With more to come, the proxy asks for it at once, as soon as it compares the position with its own.
        let seconds = if missed.more { 1 } else { 120 };
        let listened = Channel::new(channel).prev_id(missed.at.to_string());
        let hold = self.revocable(Hold::stream(), identity).channel(listened).next(next, Some(seconds));
        let hold = hold.keep_alive(KeepAlive::new(":\n\n", STREAM_SECONDS));
        hold.apply(response).map_err(|error| ChannelsError::Response(error.into()))
    }

    /// Publishes the body of a request.
    pub(super) async fn post(
        &self,
        request: &Request<Vec<u8>>,
        identity: &Identity,
        channel: &str,
    ) -> Result<Response<Vec<u8>>, ChannelsError> {
        let Ok(content) = std::str::from_utf8(request.body()) else {
            return Ok(self.problem(StatusCode::BAD_REQUEST, &ChannelsError::NotJson.to_string()));
        };

        match self.publish_of(identity, channel, content).await {
            Ok(position) => {
                Ok(self.json(StatusCode::OK, json!({ "id": position.to_string(), "sent": true }).to_string()))
            }
            Err(failure @ ChannelsError::Undelivered { position, .. }) => {
                (self.on_failure)(&failure);
                let body = json!({ "id": position.to_string(), "sent": false }).to_string();
                Ok(self.json(StatusCode::ACCEPTED, body))
            }
            Err(problem @ (ChannelsError::NotJson | ChannelsError::Refused)) => {
                Ok(self.problem(StatusCode::BAD_REQUEST, &problem.to_string()))
            }
            Err(problem @ ChannelsError::TooLarge(_)) => {
                Ok(self.problem(StatusCode::PAYLOAD_TOO_LARGE, &problem.to_string()))
            }
            Err(failure) => Err(failure),
        }
    }

    /// A hold that also listens to the channels through which its client can be revoked.
    fn revocable(&self, hold: Hold, identity: &Identity) -> Hold {
        let ids = identity.revocation_ids();
        ids.iter().fold(hold.prefixed(&self.prefix), |hold, id| hold.channel(&*name::revocation(id)))
    }

    /// What a client missed after a position. `None` if the channel never had the position.
    async fn missed(&self, channel: &str, after: Position) -> Result<Option<Missed>, ChannelsError> {
        let (entries, more, lost) = match self.store.after(channel, after, PAGE).await? {
            Replay::Whole { entries, more } => (entries, more, None),
            Replay::Lost { entries, more } => {
                let start = entries.first().map_or(Position::START, |entry| entry.position.previous());
                (entries, more, Some(start))
            }
            Replay::Unknown => return Ok(None),
        };

        let at = lost.unwrap_or(after);
        let lost = lost.map(|start| wire::lost(channel, after, start));
        let mut missed = Missed { items: Vec::new(), lost, at, more };
        let mut bytes = 0;
        for entry in &entries {
            let (position, json) = written(channel, entry);
            bytes += json.len() + 100;
            if bytes > PAGE_BYTES && !missed.items.is_empty() {
                missed.more = true;
                break;
            }
            missed.at = position;
            missed.items.push((position, json));
        }
        Ok(Some(missed))
    }

    fn forged(&self) -> Response<Vec<u8>> {
        self.problem(StatusCode::BAD_REQUEST, "this channel never had the position; begin without one")
    }

    /// A response that describes the problem with the request.
    pub(super) fn problem(&self, status: StatusCode, problem: &str) -> Response<Vec<u8>> {
        self.json(status, json!({ "error": problem }).to_string())
    }

    /// The response to a browser that asks whether a page of another origin may send the request.
    pub(super) fn preflight(&self) -> Response<Vec<u8>> {
        let mut response = self.json(StatusCode::NO_CONTENT, String::new());
        if self.origin.is_some() {
            let headers = response.headers_mut();
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
            headers.insert(
                ACCESS_CONTROL_ALLOW_HEADERS,
                HeaderValue::from_static("authorization, content-type"),
            );
        }
        response
    }

    /// Why the client may not do this, or nothing.
    pub(super) fn forbidden(
        &self,
        identity: &Identity,
        action: Action,
        channel: &str,
    ) -> Option<Response<Vec<u8>>> {
        let permitted = self.authorizer.permits(identity, action, channel);
        (!permitted).then(|| self.refusal(Denied::Forbidden))
    }
}

fn written(channel: &str, entry: &Entry) -> (Position, String) {
    (entry.position, wire::item(channel, entry))
}

/// The position of the last item of a channel that the proxy has sent to the client, in a request that it repeats.
fn grip_last(headers: &HeaderMap, channel: &str) -> Option<Position> {
    let values = headers.get_all("grip-last").iter().filter_map(|value| value.to_str().ok());
    let mut entries = values.flat_map(|value| value.split(','));
    entries.find_map(|entry| {
        let mut parts = entry.split(';').map(str::trim);
        let is_this = parts.next() == Some(channel);
        let id = parts.find_map(|part| part.strip_prefix("last-id="))?;
        is_this.then(|| id.trim_matches('"').parse().ok())?
    })
}

/// A parameter of the query, decoded.
fn parameter(request: &Request<Vec<u8>>, name: &str) -> Option<String> {
    let pairs = request.uri().query()?.split('&').filter_map(|pair| pair.split_once('='));
    let mut values = pairs.filter(|(key, _)| *key == name).map(|(_, value)| value);
    let value = values.next()?;
    Some(percent_decode_str(value).decode_utf8_lossy().into_owned())
}

#[cfg(test)]
mod tests;
