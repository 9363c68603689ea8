//! Configuration that a secret is a part of: read at the start, and again when a key turns out to be wrong, so that a
//! rotation needs no restart. What a wrong key is, the function knows.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::env::{Environment, InvalidVariable};
use crate::secrets::{ReadSecret, UnreadableSecret, Version};

/// The shortest time between two reads of the secret. Strangers can send requests that fail a check, and each read
/// costs money.
pub const BETWEEN_READS: Duration = Duration::from_secs(30);

/// The environment variable that names the secret of the GRIP proxy.
pub const GRIP_SECRET: &str = "GRIP_SECRET";

/// The reasons for which a function has no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A variable, or the secret's member of that name, is invalid.
    #[error(transparent)]
    Variable(#[from] InvalidVariable),
    /// The secret cannot be read.
    #[error(transparent)]
    Unreadable(#[from] UnreadableSecret),
    /// The secret has another form. The text contains no part of it.
    #[error("the secret in {GRIP_SECRET} must be a JSON object of texts, with GRIP_URL and the like")]
    NoObject,
    /// Something that is made of the configuration could not be made.
    #[error("{0}")]
    Unusable(String),
}

/// A configuration, and the secret from which a part of it comes, if there is one.
pub struct Rotating<T, S> {
    /// The secret's id and its store.
    secret: Option<(String, S)>,
    make: Make<T>,
    current: RefCell<Current<T>>,
    read_at: Cell<Instant>,
}

type Make<T> = Box<dyn Fn(BTreeMap<String, String>) -> Result<T, ConfigError>>;

struct Current<T> {
    /// The members of the secret.
    values: BTreeMap<String, String>,
    config: Rc<T>,
}

impl<T, S: ReadSecret> Rotating<T, S> {
    /// Reads the configuration. `environment` returns the process's environment, and `store` makes the store that has the
    /// secret which `GRIP_SECRET` names. `config` gets the environment in which the secret's members replace the variables
    /// of the same names.
    pub async fn start(
        environment: impl Fn() -> Environment<'static> + 'static,
        store: impl FnOnce(&Environment<'_>) -> Result<S, InvalidVariable>,
        config: impl Fn(&Environment<'_>) -> Result<T, ConfigError> + 'static,
        now: Instant,
    ) -> Result<Self, ConfigError> {
        const EXAMPLE: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:grip";
        let text = |text: &str| Ok::<_, Infallible>(text.to_owned());
        let (secret, values) = match environment().parse_optional(GRIP_SECRET, EXAMPLE, text)? {
            Some(id) => {
                let store = store(&environment())?;
                let values = read(&store, &id).await?;
                (Some((id, store)), values)
            }
            None => (None, BTreeMap::new()),
        };

        let make: Make<T> = Box::new(move |values| config(&environment().with(values)));
        let config = Rc::new(make(values.clone())?);
        Ok(Self { secret, make, current: RefCell::new(Current { values, config }), read_at: now.into() })
    }

    /// The configuration in use.
    pub fn current(&self) -> Rc<T> {
        Rc::clone(&self.current.borrow().config)
    }

    /// Reads the secret again, if the last read is old enough. Returns whether the configuration has changed. A secret that
    /// cannot be used leaves the configuration as it is.
    pub async fn read_again(&self, now: Instant) -> bool {
        let Some((id, store)) = &self.secret else { return false };
        if now.duration_since(self.read_at.get()) < BETWEEN_READS {
            return false;
        }

        self.read_at.set(now);
        match self.replace(store, id).await {
            Ok(changed) => changed,
            Err(error) => {
                tracing::warn!("the secret cannot be used, and the one before stays in use: {error}");
                false
            }
        }
    }

    async fn replace(&self, store: &S, id: &str) -> Result<bool, ConfigError> {
        let values = read(store, id).await?;
        if values == self.current.borrow().values {
            return Ok(false);
        }

        let config = Rc::new((self.make)(values.clone())?);
        self.current.replace(Current { values, config });
        tracing::info!("the secret has changed, and its new values are in use");
        Ok(true)
    }
}

async fn read(store: &impl ReadSecret, id: &str) -> Result<BTreeMap<String, String>, ConfigError> {
    let text = store.read(id, Version::Current).await?.ok_or(ConfigError::NoObject)?;
    serde_json::from_str(&text).map_err(|_| ConfigError::NoObject)
}

#[cfg(test)]
mod tests;
