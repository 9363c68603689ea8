//! The keys of the links: read at the start, and again when a link does not open, so that a rotation needs no restart.

use std::cell::{Cell, RefCell};

use jiff::{SignedDuration, Timestamp};
use postern_runtime::secrets::{ReadSecret, UnreadableSecret, Version};

use crate::link::{Ask, Decision, InvalidLink, Key, KeyTooShort};
use crate::source::KeySource;

/// The shortest time between two reads of the secret. Strangers can send links that do not open, and each read costs
/// money.
const BETWEEN_READS: SignedDuration = SignedDuration::from_secs(30);

/// The reasons for which there is no key.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Secrets Manager gave no secret.
    #[error(transparent)]
    Unreadable(#[from] UnreadableSecret),
    /// The secret was created without a value.
    #[error("the secret {0} has no current version")]
    NoVersion(String),
    /// The secret has too few bytes for a key.
    #[error("the secret {0} is too short: {1}")]
    TooShort(String, KeyTooShort),
}

/// The key that seals links, and the keys that open them: the current one and the one before it.
pub struct Keyring<S> {
    secrets: S,
    /// The secret's id, if the keys come from a secret.
    id: Option<String>,
    keys: RefCell<Keys>,
    read_at: Cell<Timestamp>,
}

struct Keys {
    current: Key,
    previous: Option<Key>,
}

impl<S: ReadSecret> Keyring<S> {
    /// Reads the keys.
    pub async fn open(source: KeySource, secrets: S, now: Timestamp) -> Result<Self, Error> {
        let (id, keys) = match source {
            KeySource::Secret(id) => {
                let keys = read(&secrets, &id).await?;
                (Some(id), keys)
            }
            KeySource::Fixed(key) => (None, Keys { current: *key, previous: None }),
        };
        Ok(Self { secrets, id, keys: keys.into(), read_at: now.into() })
    }

    /// The query of the link for `decision`.
    pub fn query(&self, ask: &Ask, decision: Decision, expires: Timestamp) -> String {
        self.keys.borrow().current.query(ask, decision, expires)
    }

    /// Opens a link's query.
    pub async fn read(&self, query: &str, now: Timestamp) -> Result<(Decision, Ask), InvalidLink> {
        match self.keys.borrow().read(query, now) {
            Err(InvalidLink::Forged) => {}
            other => return other,
        }

        // The key may have been rotated since it was read.
        self.read_again(now).await;
        self.keys.borrow().read(query, now)
    }

    async fn read_again(&self, now: Timestamp) {
        let Some(id) = &self.id else { return };
        if now.duration_since(self.read_at.get()) < BETWEEN_READS {
            return;
        }

        self.read_at.set(now);
        match read(&self.secrets, id).await {
            Ok(keys) => drop(self.keys.replace(keys)),
            Err(error) => tracing::warn!("the key cannot be read again: {error}"),
        }
    }
}

impl Keys {
    fn read(&self, query: &str, now: Timestamp) -> Result<(Decision, Ask), InvalidLink> {
        match (self.current.read(query, now), &self.previous) {
            (Err(InvalidLink::Forged), Some(previous)) => previous.read(query, now),
            (current, _) => current,
        }
    }
}

async fn read(secrets: &impl ReadSecret, id: &str) -> Result<Keys, Error> {
    let key =
        |text: String| Key::new(text.as_bytes()).map_err(|problem| Error::TooShort(id.to_owned(), problem));

    let current = secrets.read(id, Version::Current).await?;
    let current = key(current.ok_or_else(|| Error::NoVersion(id.to_owned()))?)?;
    // A previous key that is too short sealed no link.
    let previous = secrets.read(id, Version::Previous).await?.and_then(|text| key(text).ok());

    Ok(Keys { current, previous })
}

#[cfg(test)]
mod tests;
