//! Who may do what in which channel.

use std::time::SystemTime;

/// Something that a client does in a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Receive the channel's items, live and from its history.
    Subscribe,
    /// Add items to the channel.
    Publish,
    /// Be present in the channel, and see its members.
    Presence,
}

impl Action {
    /// The action's name in tokens and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Subscribe => "subscribe",
            Self::Publish => "publish",
            Self::Presence => "presence",
        }
    }
}

/// Why a client is refused. The error contains no part of the credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The request has no credential.
    #[error("a token is needed: as a bearer token, or as the WebSocket subprotocol \"bearer.TOKEN\"")]
    Missing,
    /// The credential is invalid.
    #[error("the token is not valid")]
    Invalid,
    /// The credential has expired.
    #[error("the token has expired; get a new one and connect again")]
    Expired,
    /// The credential or its subject was revoked.
    #[error("the token was revoked")]
    Revoked,
    /// The credential is valid, and does not allow the action in the channel.
    #[error("the token does not allow this in this channel")]
    Forbidden,
}

impl Denied {
    /// The WebSocket close code that a client receives: 4401 where a new token helps, otherwise 4403.
    pub fn close_code(self) -> u16 {
        match self {
            Self::Missing | Self::Invalid | Self::Expired => 4401,
            Self::Revoked | Self::Forbidden => 4403,
        }
    }
}

/// A right to do some actions in the channels that match a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pattern: String,
    actions: Vec<Action>,
}

impl Grant {
    /// The actions in every channel that matches `pattern`. Names and patterns consist of parts that dots separate. `*`
    /// stands for one part; `**` at the end stands for one or more.
    ///
    /// ```
    /// use grip::channels::{Action, Grant};
    ///
    /// let grant = Grant::new("room.*", [Action::Subscribe]);
    /// assert!(grant.permits(Action::Subscribe, "room.7"));
    /// assert!(!grant.permits(Action::Subscribe, "room.7.staff"));
    /// assert!(!grant.permits(Action::Publish, "room.7"));
    /// ```
    pub fn new(pattern: impl Into<String>, actions: impl IntoIterator<Item = Action>) -> Self {
        Self { pattern: pattern.into(), actions: actions.into_iter().collect() }
    }

    /// Whether the grant allows an action in a channel.
    pub fn permits(&self, action: Action, channel: &str) -> bool {
        self.actions.contains(&action) && matches(&self.pattern, channel)
    }

    /// The grant as it stands in the claim `channels` of a token.
    pub(super) fn claim(&self) -> serde_json::Value {
        let actions: Vec<_> = self.actions.iter().map(|action| action.name()).collect();
        serde_json::json!({ "match": self.pattern, "do": actions })
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    let (mut patterns, mut parts) = (pattern.split('.').peekable(), name.split('.'));
    loop {
        match (patterns.next(), parts.next()) {
            (None, None) => return true,
            (Some("**"), Some(_)) if patterns.peek().is_none() => return true,
            (Some("*"), Some(part)) if !part.is_empty() => {}
            (Some(pattern), Some(part)) if pattern == part && !pattern.contains('*') => {}
            _ => return false,
        }
    }
}

/// A client, as its credential describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// Who the client is.
    pub subject: Option<String>,
    /// The credential's own name, by which it can be revoked.
    pub token_id: Option<String>,
    /// When the credential ends.
    pub expires: Option<SystemTime>,
    /// What the client may do.
    pub grants: Vec<Grant>,
}

impl Identity {
    /// The names under which this client can be revoked: its token's and its subject's.
    pub fn revocation_ids(&self) -> Vec<String> {
        let token = self.token_id.iter().map(|id| format!("token:{id}"));
        token.chain(self.subject.iter().map(|subject| format!("subject:{subject}"))).collect()
    }
}

/// Decides who may do what.
pub trait ChannelAuthorizer: Send + Sync {
    /// The client that a credential describes.
    fn identify(
        &self,
        credential: Option<&str>,
        now: SystemTime,
    ) -> impl Future<Output = Result<Identity, Denied>> + Send;

    /// Whether a client may do something in a channel. Unless implemented otherwise, its grants decide.
    fn permits(&self, identity: &Identity, action: Action, channel: &str) -> bool {
        identity.grants.iter().any(|grant| grant.permits(action, channel))
    }
}

/// Lets every client do everything in every channel, for examples and for applications on a private network.
#[derive(Debug, Clone, Copy, Default)]
pub struct Anybody;

impl ChannelAuthorizer for Anybody {
    async fn identify(&self, _credential: Option<&str>, _now: SystemTime) -> Result<Identity, Denied> {
        Ok(Identity::default())
    }

    fn permits(&self, _identity: &Identity, _action: Action, _channel: &str) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pattern_matches_whole_parts() {
        for (pattern, name, expected) in [
            ("room", "room", true),
            ("room", "room2", false),
            ("room.*", "room.1", true),
            ("room.*", "room", false),
            ("room.*", "room.", false),
            ("room.*", "room.1.2", false),
            ("*.staff", "room.staff", true),
            ("room.**", "room.1.2", true),
            ("room.**", "room", false),
            ("**", "anything.at.all", true),
            ("**.room", "a.room", false),
            ("ro*", "room", false),
            ("ro*", "ro*", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    proptest! {
        #[test]
        fn a_pattern_without_a_star_matches_only_itself(a in "[a-z.]{0,12}", b in "[a-z.]{0,12}") {
            prop_assert_eq!(matches(&a, &b), a == b);
        }
    }
}
