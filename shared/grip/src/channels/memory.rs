//! A store in memory, for one process: tests, examples, and servers that do not scale out.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use ring::rand::{SecureRandom as _, SystemRandom};

use super::position::Position;
use super::store::{
    Appended, Entry, History, Member, Presence, Replay, Revocations, StoreError, Verdict, judge,
};

/// How many items of a channel are kept unless [`MemoryStore::keep`] says otherwise.
const KEPT: usize = 1_000;

/// Histories, presence and revocations in the memory of this process.
///
/// When the process ends, the histories end. The next process starts new ones with new epochs, so clients learn that
/// something is lost. Several processes cannot share it: on Lambda, use `DynamoStore`.
#[derive(Debug)]
pub struct MemoryStore {
    kept: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    logs: HashMap<String, Log>,
    present: HashMap<String, BTreeMap<String, (Member, SystemTime)>>,
    revoked: HashMap<String, SystemTime>,
}

#[derive(Debug)]
struct Log {
    newest: Position,
    entries: VecDeque<Entry>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store, which keeps the newest 1,000 items of each channel.
    pub fn new() -> Self {
        Self { kept: KEPT, state: Mutex::default() }
    }

    /// Keeps this many items of each channel, at least one.
    #[must_use]
    pub fn keep(mut self, items: usize) -> Self {
        self.kept = items.max(1);
        self
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of the state is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A random epoch. Zero is not one: it stands for the start of a channel.
pub(super) fn epoch() -> Result<u64, StoreError> {
    let mut bytes = [0; 8];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| StoreError::new("choose an epoch", "the system has no random numbers"))?;
    Ok(u64::from_le_bytes(bytes).max(1))
}

impl History for MemoryStore {
    async fn append(&self, channel: &str, content: &str) -> Result<Appended, StoreError> {
        let begun = Instant::now();
        let fresh = epoch()?;
        let mut state = self.state();
        let log = state
            .logs
            .entry(channel.to_owned())
            .or_insert_with(|| Log { newest: Position::new(fresh, 0), entries: VecDeque::new() });

        log.newest = log.newest.next();
        log.entries.push_back(Entry { position: log.newest, content: content.to_owned() });
        if log.entries.len() > self.kept {
            log.entries.pop_front();
        }
        Ok(Appended { position: log.newest, begun })
    }

    async fn position(&self, channel: &str) -> Result<Position, StoreError> {
        Ok(self.state().logs.get(channel).map_or(Position::START, |log| log.newest))
    }

    async fn after(&self, channel: &str, position: Position, limit: usize) -> Result<Replay, StoreError> {
        let state = self.state();
        let log = state.logs.get(channel);
        let entries = || log.iter().flat_map(|log| &log.entries);
        let found: Vec<Entry> = entries()
            .filter(|entry| entry.position.offset() >= position.offset())
            .take(limit + 2)
            .cloned()
            .collect();

        Ok(match judge(position, &found, limit, log.map(|log| log.newest)) {
            Verdict::Whole(entries, more) => Replay::Whole { entries, more },
            Verdict::Unknown => Replay::Unknown,
            Verdict::Lost => {
                let left: Vec<Entry> = entries().take(limit).cloned().collect();
                Replay::Lost { more: entries().count() > left.len(), entries: left }
            }
        })
    }

    async fn recent(&self, channel: &str, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let state = self.state();
        let entries = state.logs.get(channel).map(|log| &log.entries);
        let skipped = entries.map_or(0, |entries| entries.len().saturating_sub(limit));
        Ok(entries.into_iter().flatten().skip(skipped).cloned().collect())
    }
}

impl Presence for MemoryStore {
    async fn enter(&self, channel: &str, member: &Member, until: SystemTime) -> Result<bool, StoreError> {
        let mut state = self.state();
        let members = state.present.entry(channel.to_owned()).or_default();
        Ok(members.insert(member.id.clone(), (member.clone(), until)).is_none())
    }

    async fn renew(&self, channel: &str, id: &str, until: SystemTime) -> Result<bool, StoreError> {
        let mut state = self.state();
        let member = state.present.get_mut(channel).and_then(|members| members.get_mut(id));
        Ok(member.map(|(_, end)| *end = until).is_some())
    }

    async fn leave(&self, channel: &str, id: &str) -> Result<Option<Member>, StoreError> {
        let mut state = self.state();
        let members = state.present.get_mut(channel);
        Ok(members.and_then(|members| members.remove(id)).map(|(member, _)| member))
    }

    async fn evict(&self, channel: &str, id: &str, now: SystemTime) -> Result<Option<Member>, StoreError> {
        let mut state = self.state();
        let Some(members) = state.present.get_mut(channel) else { return Ok(None) };
        if members.get(id).is_none_or(|(_, end)| *end > now) {
            return Ok(None);
        }
        Ok(members.remove(id).map(|(member, _)| member))
    }

    async fn members(&self, channel: &str) -> Result<Vec<(Member, SystemTime)>, StoreError> {
        Ok(self.state().present.get(channel).into_iter().flat_map(BTreeMap::values).cloned().collect())
    }
}

impl Revocations for MemoryStore {
    async fn revoke(&self, id: &str, until: SystemTime) -> Result<(), StoreError> {
        let mut state = self.state();
        state.revoked.retain(|_, end| *end > SystemTime::now());
        state.revoked.insert(id.to_owned(), until);
        Ok(())
    }

    async fn is_revoked(&self, ids: &[String]) -> Result<bool, StoreError> {
        let state = self.state();
        Ok(ids.iter().any(|id| state.revoked.get(id).is_some_and(|end| *end > SystemTime::now())))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::runtime::Builder;

    use super::*;

    const EPOCH: u64 = 7;

    /// A store whose `room` has the items `first` to `last`, or nothing if `last` is zero.
    fn store(first: u64, last: u64) -> MemoryStore {
        let store = MemoryStore::new();
        if last > 0 {
            let entries = (first..=last).map(entry).collect();
            let log = Log { newest: Position::new(EPOCH, last), entries };
            store.state().logs.insert("room".to_owned(), log);
        }
        store
    }

    fn entry(offset: u64) -> Entry {
        Entry { position: Position::new(EPOCH, offset), content: offset.to_string() }
    }

    /// What a client at `position` must receive, said without the store: all that follows, or that something is lost.
    fn expected(first: u64, last: u64, position: Position, limit: usize) -> Replay {
        let items = |from: u64| {
            let entries: Vec<_> = (from..=last).take(limit).map(entry).collect();
            let more = entries.last().is_some_and(|entry| entry.position.offset() < last);
            (entries, more)
        };
        let is_known = position == Position::START || position.epoch() == EPOCH && last > 0;
        if is_known && position.offset() > last {
            return Replay::Unknown;
        }
        // Zero items are whole for a client that has all of them.
        let is_whole = is_known && (position.offset() == last || position.offset() + 1 >= first);
        let (entries, more) = items(if is_whole { position.offset() + 1 } else { first });
        if is_whole { Replay::Whole { entries, more } } else { Replay::Lost { entries, more } }
    }

    proptest! {
        #[test]
        fn a_replay_is_whole_or_says_that_items_are_lost(
            first in 1..20_u64,
            count in 0..20_u64,
            epoch in prop::sample::select(vec![0, EPOCH, EPOCH + 1]),
            offset in 0..45_u64,
            limit in 1..25_usize,
        ) {
            let last = if count == 0 { 0 } else { first + count - 1 };
            let position = if epoch == 0 { Position::START } else { Position::new(epoch, offset) };
            let runtime = Builder::new_current_thread().build().unwrap();
            let replay = runtime.block_on(store(first, last).after("room", position, limit)).unwrap();
            prop_assert_eq!(replay, expected(first, last, position, limit));
        }
    }
}
