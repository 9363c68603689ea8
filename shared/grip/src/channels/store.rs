//! What channels need from a store: the histories, the members, and the revoked tokens.

use std::error::Error;
use std::time::{Instant, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::position::Position;

/// An operation of a store failed.
#[derive(Debug, thiserror::Error)]
#[error("the store cannot {operation}: {cause}")]
pub struct StoreError {
    /// The operation, such as `append an item`.
    pub operation: &'static str,
    /// Why it failed.
    pub cause: Box<dyn Error + Send + Sync>,
}

impl StoreError {
    /// An error of this operation.
    pub fn new(operation: &'static str, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { operation, cause: cause.into() }
    }
}

/// An item of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The place after the item.
    pub position: Position,
    /// The item's content, as JSON text.
    pub content: String,
}

/// An item that was added to a history.
#[derive(Debug, Clone, Copy)]
pub struct Appended {
    /// The place after the item.
    pub position: Position,
    /// When the write that succeeded began. An item that could not be sent to the proxy soon after this time is not sent
    /// at all, so that the proxy never receives it long after the items that follow.
    pub begun: Instant,
}

/// What a client missed after a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replay {
    /// Every item after the position, without a gap. `more` says that further items follow these.
    Whole {
        /// The items, in order.
        entries: Vec<Entry>,
        /// Whether there are more items after these.
        more: bool,
    },
    /// Items after the position are gone, or the whole history is. What is left starts with these.
    Lost {
        /// The oldest items that are left, in order.
        entries: Vec<Entry>,
        /// Whether there are more items after these.
        more: bool,
    },
    /// The history never had this position.
    Unknown,
}

/// The histories of channels.
///
/// An implementation promises three things. Offsets of a channel count from 1 without a gap, also under concurrent
/// publishers. Every `after` that begins later finds an item that `append` reported as added, until the item is too old.
/// And a new history of a channel has an epoch that no earlier history had.
pub trait History: Send + Sync {
    /// Adds an item to the end of a channel's history.
    fn append(
        &self,
        channel: &str,
        content: &str,
    ) -> impl Future<Output = Result<Appended, StoreError>> + Send;

    /// The place after the newest item, or [`Position::START`].
    fn position(&self, channel: &str) -> impl Future<Output = Result<Position, StoreError>> + Send;

    /// At most `limit` items after a position.
    fn after(
        &self,
        channel: &str,
        position: Position,
        limit: usize,
    ) -> impl Future<Output = Result<Replay, StoreError>> + Send;

    /// The newest items, at most `limit`, in order.
    fn recent(
        &self,
        channel: &str,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Entry>, StoreError>> + Send;

    /// Work that a store does after an item was published, such as giving the item before it an expiry time.
    fn settle(
        &self,
        _channel: &str,
        _position: Position,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        async { Ok(()) }
    }
}

/// A connection that is present in a channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// A name for the connection, from which the connection's id cannot be derived.
    pub id: String,
    /// The subject of the connection's token.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub subject: Option<String>,
    /// The information that the client gave about itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub info: Option<Value>,
}

/// Who is present in which channel.
///
/// Each entry ends at a time, unless it is renewed. A member whose time is over is reported as gone by exactly one call
/// of `leave` or `evict`.
pub trait Presence: Send + Sync {
    /// Adds a member. Returns whether it was not there before.
    fn enter(
        &self,
        channel: &str,
        member: &Member,
        until: SystemTime,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Keeps a member. Returns false if it is not there.
    fn renew(
        &self,
        channel: &str,
        id: &str,
        until: SystemTime,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Removes a member. Returns it if it was there.
    fn leave(
        &self,
        channel: &str,
        id: &str,
    ) -> impl Future<Output = Result<Option<Member>, StoreError>> + Send;

    /// Removes a member whose time is over at `now`. Returns it if this call removed it.
    fn evict(
        &self,
        channel: &str,
        id: &str,
        now: SystemTime,
    ) -> impl Future<Output = Result<Option<Member>, StoreError>> + Send;

    /// The members of a channel, with the time at which each of them ends.
    fn members(
        &self,
        channel: &str,
    ) -> impl Future<Output = Result<Vec<(Member, SystemTime)>, StoreError>> + Send;
}

/// Which tokens and subjects are revoked.
pub trait Revocations: Send + Sync {
    /// Revokes an id until a time, at which the tokens that it concerns have expired.
    fn revoke(&self, id: &str, until: SystemTime) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Whether one of the ids is revoked.
    fn is_revoked(&self, ids: &[String]) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// A store of everything that [`Channels`](super::Channels) needs.
pub trait Store: History + Presence + Revocations {}

impl<S: History + Presence + Revocations> Store for S {}

/// Judges the entries at and after `position`, which must be in order. `newest` is called only if there are no entries.
pub(crate) fn judge(position: Position, found: &[Entry], limit: usize, newest: Option<Position>) -> Verdict {
    let Some(first) = found.first() else {
        return match newest {
            None if position == Position::START => Verdict::Whole(Vec::new(), false),
            Some(newest) if newest.epoch() == position.epoch() => Verdict::Unknown,
            _ => Verdict::Lost,
        };
    };

    // The entry at the position itself shows that the epoch is the same; it is not sent again.
    let rest = if first.position == position { &found[1..] } else { found };
    let mut last = position;
    let mut entries = Vec::new();
    for entry in rest.iter().take(limit) {
        if !entry.position.follows(last) {
            break;
        }
        last = entry.position;
        entries.push(entry.clone());
    }

    match rest.len() {
        0 => Verdict::Whole(entries, false),
        _ if entries.is_empty() => Verdict::Lost,
        count => {
            let more = count > entries.len();
            Verdict::Whole(entries, more)
        }
    }
}

/// What the entries after a position mean.
pub(crate) enum Verdict {
    /// They continue the position. The second field says whether there are more.
    Whole(Vec<Entry>, bool),
    /// They do not continue the position.
    Lost,
    /// The history has never been as long as the position.
    Unknown,
}
