//! The entry for every request to channels: decides what kind of request it is, and answers it.

use http::{Method, Request, Response, StatusCode};
use percent_encoding::percent_decode_str;

use super::access::{Action, ChannelAuthorizer};
use super::core::{Channels, ChannelsError, Proxy};
use super::credential::credential;
use super::name;
use super::store::Store;
use crate::websocket::WebSocket;

impl<S: Store, P: Proxy, A: ChannelAuthorizer> Channels<S, P, A> {
    /// Answers a request. `path` is the part of its path below the place where the channels are.
    ///
    /// | Request | Response |
    /// | --- | --- |
    /// | a WebSocket, any path | the messages of the [module](super) |
    /// | `GET CHANNEL/poll?after=POSITION` | the items after the position, as soon as there are some |
    /// | `GET CHANNEL/stream?after=POSITION` | the items after the position as server-sent events |
    /// | `GET CHANNEL/members` | who is present |
    /// | `POST CHANNEL` | adds the body, which is JSON, to the channel |
    ///
    /// A failure of the store or the proxy is passed to the observer and answered with 503, which cuts a WebSocket: its
    /// client connects again and resumes.
    pub async fn serve(&self, path: &str, request: &Request<Vec<u8>>) -> Response<Vec<u8>> {
        match self.try_serve(path, request).await {
            Ok(response) => response,
            Err(failure) => {
                (self.on_failure)(&failure);
                self.problem(StatusCode::SERVICE_UNAVAILABLE, "the channels are unavailable; try again")
            }
        }
    }

    async fn try_serve(
        &self,
        path: &str,
        request: &Request<Vec<u8>>,
    ) -> Result<Response<Vec<u8>>, ChannelsError> {
        // A publisher may call the function directly, so its token is what counts.
        let is_publication = request.method() == Method::POST && !WebSocket::is_claimed_by(request);
        if !is_publication && self.verifier.check(request.headers()).is_err() {
            return Ok(self.problem(StatusCode::FORBIDDEN, "the request is not signed by the GRIP proxy"));
        }
        if WebSocket::is_claimed_by(request) {
            return self.socket(request).await;
        }
        if request.method() == Method::OPTIONS {
            return Ok(self.preflight());
        }

        let path = path.trim_matches('/');
        let (channel, rest) = path.split_once('/').unwrap_or((path, ""));
        let channel = percent_decode_str(channel).decode_utf8_lossy();
        if let Err(problem) = name::check(&channel) {
            return Ok(self.problem(StatusCode::BAD_REQUEST, &problem.to_string()));
        }
        self.plain(request, &channel, rest).await
    }

    /// Answers a request that is not a WebSocket's.
    async fn plain(
        &self,
        request: &Request<Vec<u8>>,
        channel: &str,
        rest: &str,
    ) -> Result<Response<Vec<u8>>, ChannelsError> {
        let action = match (request.method(), rest) {
            (&Method::GET, "poll" | "stream") => Action::Subscribe,
            (&Method::GET, "members") => Action::Presence,
            (&Method::POST, "") => Action::Publish,
            _ => return Ok(self.problem(StatusCode::NOT_FOUND, "there is nothing here")),
        };
        let identity = match self.admit(credential(request).as_deref()).await? {
            Ok(identity) => identity,
            Err(denied) => return Ok(self.refusal(denied)),
        };
        if let Some(refusal) = self.forbidden(&identity, action, channel) {
            return Ok(refusal);
        }

        match (action, rest) {
            (Action::Publish, _) => self.post(request, &identity, channel).await,
            (Action::Presence, _) => {
                let members = self.sweep(channel).await?;
                Ok(self.json(StatusCode::OK, members.to_string()))
            }
            (Action::Subscribe, "poll") => self.poll(request, &identity, channel).await,
            (Action::Subscribe, _) => self.stream(request, &identity, channel).await,
        }
    }
}
