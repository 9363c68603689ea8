//! Presence: the members of a channel, and the messages to the channel when a member comes or goes.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::access::{Action, ChannelAuthorizer};
use super::core::{Channels, ChannelsError, Proxy};
use super::name;
use super::served::{CHANNELS, Served};
use super::store::{Member, Store};
use super::wire;

impl<S: Store, P: Proxy, A: ChannelAuthorizer> Channels<S, P, A> {
    /// Makes the connection present in a channel, and sends it the list of members.
    pub(super) async fn enter(&self, client: &mut Served<'_>, channel: &str, info: Option<Value>) {
        if let Err(problem) = name::check(channel) {
            client.ws.send(&*wire::refused(channel, "name", &problem.to_string()));
            return;
        }
        let is_new = !client.present.iter().any(|present| present == channel);
        if is_new && client.present.len() >= CHANNELS {
            let reason = format!("a connection is present in at most {CHANNELS} channels");
            client.ws.send(&*wire::refused(channel, "channels", &reason));
            return;
        }
        if !client.permits(&self.authorizer, Action::Presence, channel) {
            return;
        }

        if is_new {
            client.present.push(channel.to_owned());
        }
        self.join(client, channel, info).await;
        self.list(client, channel).await;
    }

    async fn join(&self, client: &Served<'_>, channel: &str, info: Option<Value>) {
        let id = name::short_hash(client.ws.id());
        let member = Member { id, subject: client.identity.subject.clone(), info };

        match self.store.enter(channel, &member, self.present_until()).await {
            Ok(true) => self.tell("joined", channel, &member).await,
            Ok(false) => {}
            Err(failure) => (self.on_failure)(&failure.into()),
        }
    }

    /// Sends the list of members, after removing those whose time is over.
    pub(super) async fn list(&self, client: &mut Served<'_>, channel: &str) {
        if name::check(channel).is_err() || !client.permits(&self.authorizer, Action::Presence, channel) {
            return;
        }

        match self.sweep(channel).await {
            Ok(members) => client.ws.send(&*members.to_string()),
            Err(failure) => (self.on_failure)(&failure),
        }
    }

    /// Renews the connection's presence, and removes members whose connections are gone.
    pub(super) async fn renew(&self, client: &Served<'_>) {
        let id = name::short_hash(client.ws.id());

        for channel in &client.present {
            match self.store.renew(channel, &id, self.present_until()).await {
                Ok(true) => {}
                // The member's time was over, because keep-alives came late. Its information is gone.
                Ok(false) => self.join(client, channel, None).await,
                Err(failure) => (self.on_failure)(&failure.into()),
            }
            if let Err(failure) = self.sweep(channel).await {
                (self.on_failure)(&failure);
            }
        }
    }

    /// Removes a connection from channels, and announces that to them.
    pub(super) async fn leave_all(&self, connection: &str, channels: &[String]) {
        let id = name::short_hash(connection);
        for channel in channels {
            match self.store.leave(channel, &id).await {
                Ok(Some(member)) => self.tell("left", channel, &member).await,
                Ok(None) => {}
                Err(failure) => (self.on_failure)(&failure.into()),
            }
        }
    }

    /// The members of a channel. Those whose time is over are removed, which is announced to the channel.
    pub(super) async fn sweep(&self, channel: &str) -> Result<Value, ChannelsError> {
        let now = SystemTime::now();
        let (alive, over): (Vec<_>, Vec<_>) =
            self.store.members(channel).await?.into_iter().partition(|(_, end)| *end > now);

        for (member, _) in over {
            if let Some(member) = self.store.evict(channel, &member.id, now).await? {
                self.tell("left", channel, &member).await;
            }
        }
        Ok(wire::members(channel, &alive))
    }

    async fn tell(&self, kind: &str, channel: &str, member: &Member) {
        if let Err(failure) = self.announce(kind, channel, member).await {
            (self.on_failure)(&failure);
        }
    }

    /// How long a member is kept: for two and a half keep-alives, or for a day without keep-alives.
    fn present_until(&self) -> SystemTime {
        let seconds = match self.keep_alive {
            0 => 86_400,
            seconds => u64::from(seconds.max(20)) * 5 / 2,
        };
        SystemTime::now() + Duration::from_secs(seconds)
    }
}
