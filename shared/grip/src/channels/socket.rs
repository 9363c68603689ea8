//! Channels on a WebSocket: subscribing with a replay, confirming, publishing, and presence.
//!
//! A subscription becomes active some time after the response that asks for it. Two steps close that gap. The response to
//! `subscribe` also subscribes the connection to a marker channel of its own, after the others. On `confirm`, the function
//! first publishes to the marker channel and then reads the history. When the client receives the marker, its
//! subscriptions were active before that history was read: whatever it did not receive live is in the reply.

use std::collections::BTreeMap;
use std::time::SystemTime;

use http::{Request, Response};
use serde_json::value::RawValue;

use super::access::{Action, ChannelAuthorizer, Denied};
use super::core::{Channels, ChannelsError, Proxy};
use super::credential::credential;
use super::name;
use super::position::Position;
use super::served::{self, CHANNELS, Served, response};
use super::store::{Entry, Replay, Store};
use super::wire::{self, FromClient, SUBPROTOCOL};
use crate::publish::{Item, WsMessage};
use crate::websocket::{End, Message, WebSocket};

/// The most items that one reply holds.
const PAGE: usize = 500;

/// The room that is kept in a response for everything but items, in bytes.
const RESERVE: usize = 64_000;

impl<S: Store, P: Proxy, A: ChannelAuthorizer> Channels<S, P, A> {
    /// Answers one request of a WebSocket connection.
    pub(super) async fn socket(
        &self,
        request: &Request<Vec<u8>>,
    ) -> Result<Response<Vec<u8>>, ChannelsError> {
        let mut ws = match WebSocket::read(request) {
            Ok(ws) => ws.prefixed(&self.prefix),
            Err(problem) => return Ok(problem.to_response()),
        };

        let present = served::present(&ws);
        match self.admit(credential(request).as_deref()).await? {
            Ok(identity) => self.serve_admitted(Served { ws, identity, present }).await,
            Err(denied) if ws.is_opening() => Ok(self.refusal(denied)),
            Err(denied) => {
                self.leave_all(ws.id(), &present).await;
                ws.close(denied.close_code(), &denied.to_string()).map_err(response)?;
                Ok(ws.to_response())
            }
        }
    }

    async fn serve_admitted(&self, mut client: Served<'_>) -> Result<Response<Vec<u8>>, ChannelsError> {
        if client.ws.is_opening() {
            self.open(&mut client)?;
        }

        let before = client.present.clone();
        let mut is_silent = true;
        while let Some(message) = client.ws.recv() {
            is_silent = false;
            match message {
                Message::Text(text) => self.message(&mut client, text).await?,
                Message::Binary(_) => {
                    client.ws.send(&*wire::refused("", "message", "only texts are understood"));
                }
            }
        }

        match client.ws.end() {
            Some(End::ByUs) | None => {
                if is_silent && !client.ws.is_opening() {
                    self.renew(&client).await;
                }
                if client.present != before {
                    client.remember()?;
                }
            }
            Some(_) => self.leave_all(client.ws.id(), &client.present).await,
        }
        Ok(client.ws.to_response())
    }

    /// Accepts a connection, and subscribes it to the channels through which it can be revoked.
    fn open(&self, client: &mut Served<'_>) -> Result<(), ChannelsError> {
        let ws = &mut client.ws;
        if ws.protocols().any(|protocol| protocol == SUBPROTOCOL) {
            ws.accept_protocol(SUBPROTOCOL).map_err(response)?;
        } else {
            ws.accept();
        }
        for id in client.identity.revocation_ids() {
            ws.subscribe(&name::revocation(&id)).map_err(response)?;
        }

        let left = client.identity.expires.and_then(|end| end.duration_since(SystemTime::now()).ok());
        let left = left.map(|left| u32::try_from(left.as_secs() + 1).unwrap_or(u32::MAX));
        let interval = match self.keep_alive {
            0 => left,
            seconds => Some(spread(seconds, ws.id()).min(left.unwrap_or(u32::MAX))),
        };
        if let Some(seconds) = interval {
            ws.set_keep_alive_interval(seconds);
        }
        Ok(())
    }

    async fn message(&self, client: &mut Served<'_>, text: &str) -> Result<(), ChannelsError> {
        let Ok(message) = FromClient::parse(text) else {
            client.ws.send(&*wire::refused("", "message", "the message is not one of this protocol"));
            return Ok(());
        };

        match message {
            FromClient::Subscribe { n, channels, recent } => {
                self.subscribe(client, n, &channels, recent.min(PAGE)).await
            }
            FromClient::Confirm { n, channels } => self.confirm(client, n, &channels).await,
            FromClient::Unsubscribe { channels } => {
                for channel in channels.iter().filter(|channel| name::check(channel).is_ok()) {
                    client.ws.unsubscribe(channel).map_err(response)?;
                }
                Ok(())
            }
            FromClient::Publish { channel, data, reference } => {
                self.publish_for(client, &channel, data, reference).await;
                Ok(())
            }
            FromClient::Enter { channel, info } => {
                self.enter(client, &channel, info).await;
                Ok(())
            }
            FromClient::Leave { channel } => {
                client.present.retain(|present| *present != channel);
                self.leave_all(client.ws.id(), &[channel]).await;
                Ok(())
            }
            FromClient::Members { channel } => {
                self.list(client, &channel).await;
                Ok(())
            }
        }
    }

    /// Subscribes to channels, and sends what the client missed until now.
    async fn subscribe(
        &self,
        client: &mut Served<'_>,
        n: u64,
        channels: &BTreeMap<String, Option<String>>,
        recent: usize,
    ) -> Result<(), ChannelsError> {
        if channels.len() > CHANNELS {
            let reason =
                format!("{} channels in one message; at most {CHANNELS} are allowed", channels.len());
            client.ws.send(&*wire::refused("", "channels", &reason));
            return Ok(());
        }

        let allowed = self.allowed(client, channels);
        for (channel, _) in &allowed {
            client.ws.subscribe(channel).map_err(response)?;
        }
        // The marker comes last: once it is active, the others are.
        client.ws.subscribe(&name::marker(client.ws.id(), n)).map_err(response)?;
        if let Some(before) = n.checked_sub(1) {
            client.ws.unsubscribe(&name::marker(client.ws.id(), before)).map_err(response)?;
        }

        for (channel, position) in allowed {
            let replayed = match position {
                Some(position) => self.replay(client, channel, position).await,
                None => self.start(client, channel, recent).await,
            };
            if let Err(failure) = replayed {
                return self.fail(client, n, &failure);
            }
        }
        client.ws.send(&*wire::done("subscribing", n));
        Ok(())
    }

    /// Publishes the marker, then sends what the client missed until now. This order matters.
    async fn confirm(
        &self,
        client: &mut Served<'_>,
        n: u64,
        channels: &BTreeMap<String, Option<String>>,
    ) -> Result<(), ChannelsError> {
        let marker = Item::new(self.at_proxy(&name::marker(client.ws.id(), n)))
            .websocket(WsMessage::text(wire::done("live", n)));
        if let Err(cause) = self.proxy.publish(&[marker]).await {
            return self.fail(client, n, &ChannelsError::Proxy(cause));
        }

        for (channel, position) in self.allowed(client, channels) {
            let replayed = self.replay(client, channel, position.unwrap_or(Position::START)).await;
            if let Err(failure) = replayed {
                return self.fail(client, n, &failure);
            }
        }
        client.ws.send(&*wire::done("confirmed", n));
        Ok(())
    }

    /// The channels of a message that the client may subscribe to, with the positions. The others are refused.
    fn allowed<'c>(
        &self,
        client: &mut Served<'_>,
        channels: &'c BTreeMap<String, Option<String>>,
    ) -> Vec<(&'c str, Option<Position>)> {
        let mut allowed = Vec::new();
        for (channel, position) in channels.iter().take(CHANNELS) {
            let position = position.as_deref().map(str::parse::<Position>).transpose();
            match (name::check(channel), position) {
                (Err(problem), _) => client.ws.send(&*wire::refused(channel, "name", &problem.to_string())),
                (_, Err(problem)) => {
                    client.ws.send(&*wire::refused(channel, "position", &problem.to_string()));
                }
                _ if !client.permits(&self.authorizer, Action::Subscribe, channel) => {}
                (Ok(()), Ok(position)) => allowed.push((channel.as_str(), position)),
            }
        }
        allowed
    }

    /// Starts a subscription with the newest items.
    async fn start(
        &self,
        client: &mut Served<'_>,
        channel: &str,
        recent: usize,
    ) -> Result<(), ChannelsError> {
        let entries = match recent {
            0 => Vec::new(),
            _ => self.store.recent(channel, recent).await?,
        };
        let position = match entries.first() {
            Some(first) => first.position.previous(),
            None => self.store.position(channel).await?,
        };

        client.ws.send(&*wire::subscribed(channel, position));
        send_items(client, channel, &entries, false);
        Ok(())
    }

    /// Sends the items after a position, or reports that items are lost.
    async fn replay(
        &self,
        client: &mut Served<'_>,
        channel: &str,
        position: Position,
    ) -> Result<(), ChannelsError> {
        match self.store.after(channel, position, PAGE).await? {
            Replay::Whole { entries, more } => send_items(client, channel, &entries, more),
            Replay::Lost { entries, more } => {
                let start = entries.first().map_or(Position::START, |entry| entry.position.previous());
                client.ws.send(&*wire::lost(channel, position, start).to_string());
                send_items(client, channel, &entries, more);
            }
            Replay::Unknown => {
                let reason = "this channel never had the position";
                client.ws.send(&*wire::refused(channel, "position", reason));
            }
        }
        Ok(())
    }

    /// Tells the client to try again.
    #[expect(clippy::unnecessary_wraps, reason = "the result of the callers")]
    fn fail(&self, client: &mut Served<'_>, n: u64, failure: &ChannelsError) -> Result<(), ChannelsError> {
        (self.on_failure)(failure);
        client.ws.send(&*wire::failed(n));
        Ok(())
    }

    async fn publish_for(&self, client: &mut Served<'_>, channel: &str, data: &RawValue, reference: u64) {
        if !self.authorizer.permits(&client.identity, Action::Publish, channel) {
            let reason = Denied::Forbidden.to_string();
            client.ws.send(&*wire::unpublished(reference, "denied", &reason));
            return;
        }

        let reply = match self.publish_of(&client.identity, channel, data.get()).await {
            Ok(position) => wire::published(reference, position),
            // The item is in the history, so every client will receive it.
            Err(failure @ ChannelsError::Undelivered { position, .. }) => {
                (self.on_failure)(&failure);
                wire::published(reference, position)
            }
            Err(
                problem @ (ChannelsError::Name(_)
                | ChannelsError::TooLarge(_)
                | ChannelsError::NotJson
                | ChannelsError::Refused),
            ) => wire::unpublished(reference, "refused", &problem.to_string()),
            Err(failure) => {
                (self.on_failure)(&failure);
                wire::unpublished(reference, "failed", "the item may or may not have been published")
            }
        };
        client.ws.send(&*reply);
    }
}

/// Sends items as far as the response has room.
fn send_items(client: &mut Served<'_>, channel: &str, entries: &[Entry], mut more: bool) {
    for entry in entries {
        let json = wire::item(channel, entry);
        if client.ws.room() < json.len() + RESERVE {
            more = true;
            break;
        }
        client.ws.send(&*json);
    }
    if more {
        client.ws.send(&*wire::more(channel));
    }
}

/// The keep-alive of one connection: nine tenths to eleven tenths of `seconds`.
fn spread(seconds: u32, connection: &str) -> u32 {
    let hash = name::short_hash(connection);
    let part = u64::from(u16::from_str_radix(&hash[..4], 16).unwrap_or_default());
    let seconds = u64::from(seconds);
    u32::try_from(seconds * 9 / 10 + seconds * part / 5 / 65_536).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
