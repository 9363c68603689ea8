//! One request of a connection while it is served.

use super::access::{Action, ChannelAuthorizer, Denied, Identity};
use super::core::ChannelsError;
use super::name;
use super::wire;
use crate::websocket::WebSocket;

/// The most channels that a connection may subscribe to with one message. Pushpin allows 20 subscriptions, of which four
/// are needed for markers and revocation.
pub const CHANNELS: usize = 16;

/// The value at the proxy that lists the channels in which the connection is present.
const PRESENT: &str = "present";

/// One request of a connection while it is served.
pub(super) struct Served<'a> {
    pub(super) ws: WebSocket<'a>,
    pub(super) identity: Identity,
    /// The channels in which the connection is present.
    pub(super) present: Vec<String>,
}

impl Served<'_> {
    /// Whether the client may do this. If not, it receives the reason.
    pub(super) fn permits(&mut self, by: &impl ChannelAuthorizer, action: Action, channel: &str) -> bool {
        let permitted = by.permits(&self.identity, action, channel);
        if !permitted {
            self.ws.send(&*wire::denied(channel, action, Denied::Forbidden));
        }
        permitted
    }

    /// Makes the proxy remember in which channels the connection is present.
    pub(super) fn remember(&mut self) -> Result<(), ChannelsError> {
        self.ws.set_meta(PRESENT, &self.present.join(",")).map_err(response)
    }
}

/// The channels in which the connection is present, which the proxy remembers.
pub(super) fn present(ws: &WebSocket<'_>) -> Vec<String> {
    let names = ws.meta(PRESENT).unwrap_or_default().split(',');
    names.filter(|name| name::check(name).is_ok()).map(str::to_owned).collect()
}

/// A response that cannot be written.
pub(super) fn response(error: impl std::error::Error + Send + Sync + 'static) -> ChannelsError {
    ChannelsError::Response(error.into())
}
