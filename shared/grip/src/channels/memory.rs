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
