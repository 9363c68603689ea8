//! The channels of an application: publishing to them, checking who a client is, and revoking.

use std::error::Error;
use std::time::{Duration, SystemTime};

use http::Response;
use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use serde_json::{Value, json};

use super::access::{ChannelAuthorizer, Denied, Identity};
use super::name::{self, InvalidName};
use super::position::Position;
use super::store::{Entry, Member, Store, StoreError};
use super::wire;
use crate::publish::{HttpStream, Item, WsMessage};
use crate::signature::Verifier;

/// The largest content of an item, in bytes of JSON. The three forms of an item stay within what a proxy accepts.
pub const CONTENT_BYTES: usize = 65_536;

/// How long an item may wait, after it was added to the history, before it is sent to the proxy.
///
/// Pushpin waits 5 seconds for an item that is missing in between. An item that arrived still later would be taken for
/// the newest.
const LATE: Duration = Duration::from_secs(3);

/// Sends items to the proxy.
pub trait Proxy: Send + Sync {
    /// Publishes items, in order.
    fn publish(
        &self,
        items: &[Item],
    ) -> impl Future<Output = Result<(), Box<dyn Error + Send + Sync>>> + Send;
}

#[cfg(feature = "publish")]
impl Proxy for crate::publish::Publisher {
    async fn publish(&self, items: &[Item]) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(Self::publish(self, items).await?)
    }
}

/// Why something could not be done in a channel.
#[derive(Debug, thiserror::Error)]
pub enum ChannelsError {
    /// The channel's name is invalid.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The content is not JSON.
    #[error("the item's content is not JSON")]
    NotJson,
    /// The application refused what a client wanted to publish, with the function given to [`Channels::stamp`].
    #[error("the item's content is not what the application accepts")]
    Refused,
    /// The content is larger than [`CONTENT_BYTES`]. The field holds its size.
    #[error("the item's content has {0} bytes; at most {CONTENT_BYTES} are allowed")]
    TooLarge(usize),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The item is in the channel's history, but the proxy did not receive it. Clients get it when they resume, or when
    /// the next item shows them that they miss one. Do not publish it again.
    #[error("the item {position} is in the history, but it did not reach the proxy: {cause}")]
    Undelivered {
        /// The place after the item.
        position: Position,
        /// Why the proxy did not receive it.
        cause: Box<dyn Error + Send + Sync>,
    },
    /// The proxy did not receive a message that has no place in a history.
    #[error("the proxy was not reached: {0}")]
    Proxy(Box<dyn Error + Send + Sync>),
    /// A header or a control message cannot be written; the prefix is too long or has a forbidden character.
    #[error("the response cannot be written: {0}")]
    Response(Box<dyn Error + Send + Sync>),
}

/// The channels of an application. See the [module](super) for what they guarantee.
#[derive(Debug, Clone)]
pub struct Channels<S, P, A> {
    pub(super) store: S,
    pub(super) proxy: P,
    pub(super) authorizer: A,
    pub(super) verifier: Verifier,
    pub(super) prefix: String,
    pub(super) keep_alive: u32,
    pub(super) poll: u32,
    pub(super) origin: Option<HeaderValue>,
    pub(super) on_failure: fn(&ChannelsError),
    pub(super) stamp: Option<Stamp>,
}

/// Makes the content of an item from what a client sent. See [`Channels::stamp`].
type Stamp = fn(&Identity, &str) -> Option<String>;

impl<S: Store, P: Proxy, A: ChannelAuthorizer> Channels<S, P, A> {
    /// Channels with a history in `store`, behind `proxy`. `authorizer` decides who may do what. The proxy gets no prefix
    /// of its own: set it here.
    pub fn new(store: S, proxy: P, authorizer: A) -> Self {
        Self {
            store,
            proxy,
            authorizer,
            verifier: Verifier::default(),
            prefix: String::new(),
            keep_alive: 60,
            poll: 30,
            origin: None,
            on_failure: |_| {},
            stamp: None,
        }
    }

    /// Checks that the proxy made the requests of WebSockets, long-polls and streams.
    #[must_use]
    pub fn verifier(mut self, verifier: Verifier) -> Self {
        self.verifier = verifier;
        self
    }

    /// Puts `prefix` before the name of every channel at the proxy. The store has the names without it.
    #[must_use]
    pub fn prefixed(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The seconds after which an idle WebSocket makes the proxy call the function, 60 by default. Then the connection's
    /// token is checked and its presence renewed. 0 switches the calls off: presence then ends only with the connection,
    /// and an expired token only with the next message. Each connection gets up to a tenth more or less, so that a
    /// million connections that were opened at once do not call at once.
    #[must_use]
    pub fn keep_alive(mut self, seconds: u32) -> Self {
        self.keep_alive = seconds;
        self
    }

    /// How long a long-poll waits for an item, in seconds: 30 by default.
    #[must_use]
    pub fn poll_timeout(mut self, seconds: u32) -> Self {
        self.poll = seconds;
        self
    }

    /// The origin whose pages may read long-polls and streams, such as `https://example.com`, or `*`. An invalid
    /// value allows none.
    #[must_use]
    pub fn allow_origin(mut self, origin: &str) -> Self {
        self.origin = HeaderValue::from_str(origin).ok();
        self
    }

    /// Calls `observer` with each failure of the store and the proxy, for logs. The client is told to try again.
    #[must_use]
    pub fn on_failure(mut self, observer: fn(&ChannelsError)) -> Self {
        self.on_failure = observer;
        self
    }

    /// Replaces what a client publishes by what `stamp` makes of it, such as the same with the client's name, which the
    /// client cannot forge. `stamp` gets the text that the client sent and returns JSON; `None` refuses the item. Your own
    /// [`publish`](Self::publish) is not affected.
    ///
    /// ```
    /// use grip::channels::{Anybody, Channels, Identity, MemoryStore};
    /// # use grip::channels::Proxy;
    ///
    /// /// `{"text": "hello"}` of Ann becomes `{"from": "ann", "text": "hello"}`.
    /// fn signed(author: &Identity, content: &str) -> Option<String> {
    ///     let mut message: serde_json::Value = serde_json::from_str(content).ok()?;
    ///     message.as_object_mut()?.insert("from".to_owned(), author.subject.clone()?.into());
    ///     Some(message.to_string())
    /// }
    ///
    /// # fn f<P: Proxy>(publisher: P) {
    /// let channels = Channels::new(MemoryStore::new(), publisher, Anybody).stamp(signed);
    /// # }
    /// # let ann = Identity { subject: Some("ann".to_owned()), ..Identity::default() };
    /// # assert_eq!(signed(&ann, r#"{"from":"bob","text":"hello"}"#).unwrap(), r#"{"from":"ann","text":"hello"}"#);
    /// ```
    #[must_use]
    pub fn stamp(mut self, stamp: fn(&Identity, &str) -> Option<String>) -> Self {
        self.stamp = Some(stamp);
        self
    }

    /// The store.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// Adds an item to a channel's history, then sends it to the proxy. `content` is JSON.
    ///
    /// This order makes a replay complete: an item that a client might not receive live is already in the history.
    pub async fn publish(&self, channel: &str, content: &str) -> Result<Position, ChannelsError> {
        name::check(channel)?;
        if content.len() > CONTENT_BYTES {
            return Err(ChannelsError::TooLarge(content.len()));
        }
        let content = compact(content).ok_or(ChannelsError::NotJson)?;

        let appended = self.store.append(channel, &content).await?;
        let position = appended.position;
        let undelivered = |cause| ChannelsError::Undelivered { position, cause };
        if appended.begun.elapsed() > LATE {
            return Err(undelivered("the history took too long".into()));
        }

        let item = self.item(channel, &Entry { position, content })?;
        let sent = self.proxy.publish(&[item]).await;
        // The store's own work comes last, because the clients do not wait for it. A failure of it does no harm.
        if let Err(failure) = self.store.settle(channel, position).await {
            (self.on_failure)(&failure.into());
        }
        sent.map_err(undelivered)?;
        Ok(position)
    }

    /// Publishes what a client sent.
    pub(super) async fn publish_of(
        &self,
        author: &Identity,
        channel: &str,
        content: &str,
    ) -> Result<Position, ChannelsError> {
        let Some(stamp) = self.stamp else { return self.publish(channel, content).await };
        let content = stamp(author, content).ok_or(ChannelsError::Refused)?;
        self.publish(channel, &content).await
    }

    /// Revokes a token by its `jti`: from now on it is refused, and connections that it opened are closed. `until` is
    /// the time at which the token expires by itself.
    pub async fn revoke_token(&self, token_id: &str, until: SystemTime) -> Result<(), ChannelsError> {
        self.revoke(&format!("token:{token_id}"), until).await
    }

    /// Revokes every token of a subject. `until` is the time at which the last of them expires by itself.
    pub async fn revoke_subject(&self, subject: &str, until: SystemTime) -> Result<(), ChannelsError> {
        self.revoke(&format!("subject:{subject}"), until).await
    }

    async fn revoke(&self, id: &str, until: SystemTime) -> Result<(), ChannelsError> {
        // The store comes first, for new requests, and then the message that closes open connections. A connection that
        // is opened in between is closed by its next request.
        self.store.revoke(&name::short_hash(id), until).await?;

        let close = WsMessage::close(Denied::Revoked.close_code(), "revoked");
        let close = close.map_err(|error| ChannelsError::Response(error.into()))?;
        let refusal = self.refusal(Denied::Revoked);
        let item = Item::new(self.at_proxy(&name::revocation(id)))
            .websocket(close)
            .stream(HttpStream::close())
            .response(&refusal)
            .map_err(|error| ChannelsError::Response(error.into()))?;
        self.proxy.publish(&[item]).await.map_err(ChannelsError::Proxy)
    }

    /// Who a client is, if its credential is valid and not revoked.
    pub(super) async fn admit(
        &self,
        credential: Option<&str>,
    ) -> Result<Result<Identity, Denied>, ChannelsError> {
        let identity = match self.authorizer.identify(credential, SystemTime::now()).await {
            Ok(identity) => identity,
            Err(denied) => return Ok(Err(denied)),
        };

        let ids: Vec<_> = identity.revocation_ids().iter().map(|id| name::short_hash(id)).collect();
        if !ids.is_empty() && self.store.is_revoked(&ids).await? {
            return Ok(Err(Denied::Revoked));
        }
        Ok(Ok(identity))
    }

    /// A channel's name at the proxy.
    pub(super) fn at_proxy(&self, channel: &str) -> String {
        format!("{}{channel}", self.prefix)
    }

    /// An item in its three forms: the same JSON for WebSockets, for long-polls and for streams.
    fn item(&self, channel: &str, entry: &Entry) -> Result<Item, ChannelsError> {
        let json = wire::item(channel, entry);
        let polled = self.polled(std::slice::from_ref(&json), entry.position, None);

        let item = Item::new(self.at_proxy(channel))
            .id(entry.position.to_string())
            .prev_id(entry.position.previous().to_string())
            .websocket(WsMessage::text(json.clone()))
            .stream(HttpStream::text(server_sent(entry.position, &json)));
        item.response(&polled).map_err(|error| ChannelsError::Response(error.into()))
    }

    /// The response to a long-poll.
    pub(super) fn polled(&self, items: &[String], at: Position, lost: Option<Value>) -> Response<Vec<u8>> {
        let lost = lost.map(|lost| format!(",\"lost\":{lost}")).unwrap_or_default();
        let body = format!("{{\"id\":\"{at}\",\"items\":[{}]{lost}}}", items.join(","));
        self.json(http::StatusCode::OK, body)
    }

    /// The response to a client that is refused.
    pub(super) fn refusal(&self, denied: Denied) -> Response<Vec<u8>> {
        let status = match denied.close_code() {
            4401 => http::StatusCode::UNAUTHORIZED,
            _ => http::StatusCode::FORBIDDEN,
        };
        self.json(status, json!({ "error": denied.to_string() }).to_string())
    }

    /// A response in JSON, which no cache may keep.
    pub(super) fn json(&self, status: http::StatusCode, body: String) -> Response<Vec<u8>> {
        let mut response = Response::new(body.into_bytes());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(origin) = &self.origin {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        }
        response
    }

    /// Announces to the channel that a member came or went. The message has no place in the history.
    pub(super) async fn announce(
        &self,
        kind: &str,
        channel: &str,
        member: &Member,
    ) -> Result<(), ChannelsError> {
        let json = wire::presence(kind, channel, member);
        let event = format!("event: {kind}\ndata: {json}\n\n");
        let item = Item::new(self.at_proxy(channel))
            .websocket(WsMessage::text(json))
            .stream(HttpStream::text(event));
        self.proxy.publish(&[item]).await.map_err(ChannelsError::Proxy)
    }
}

/// An item as a server-sent event. The JSON has no line breaks.
pub(super) fn server_sent(position: Position, json: &str) -> String {
    format!("id: {position}\nevent: item\ndata: {json}\n\n")
}

/// JSON without line breaks, which a server-sent event cannot hold. Numbers and keys stay as they are.
fn compact(content: &str) -> Option<String> {
    serde_json::from_str::<&serde_json::value::RawValue>(content).ok()?;
    // Outside of strings, a line break is only white space; inside, JSON does not allow one.
    Some(content.trim().replace(['\r', '\n'], " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_keeps_its_numbers_and_loses_its_line_breaks() {
        assert_eq!(
            compact("{\n\"a\":1.10,\r\n\"b\":\"x\\ny\"}\n").as_deref(),
            Some("{ \"a\":1.10,  \"b\":\"x\\ny\"}")
        );
        for text in ["", "{", "a", "\"a\nb\"", "1 2"] {
            assert_eq!(compact(text), None, "{text}");
        }
    }
}
