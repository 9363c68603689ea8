//! The function with its secret: read at the start, and again when a check fails, so that a rotation needs no restart.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::{Duration, Instant};

use grip::lambda::LambdaResponse;
use grip::{PublishError, Publisher};
use postern_runtime::env::{Environment, InvalidVariable};
use postern_runtime::secrets::{ReadSecret, UnreadableSecret, Version};
use serde_json::value::RawValue;

use crate::config::Config;
use crate::handler::{Error, handle};

/// The shortest time between two reads of the secret. Strangers can send requests that fail a check, and each read
/// costs money.
const BETWEEN_READS: Duration = Duration::from_secs(30);

/// The reasons for which the function has no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error(transparent)]
    Variable(#[from] InvalidVariable),
    #[error(transparent)]
    Unreadable(#[from] UnreadableSecret),
    #[error("the secret in GRIP_SECRET must be a JSON object of texts, with GRIP_URL and the like")]
    NoObject,
    #[error(transparent)]
    Publisher(#[from] PublishError),
}

/// The function's configuration and its client of the proxy, which are replaced together.
pub(crate) struct Echo<S, E> {
    /// The secret's id and its store, if there is a secret.
    secret: Option<(String, S)>,
    environment: E,
    current: RefCell<Rc<Current>>,
    read_at: Cell<Instant>,
}

struct Current {
    /// The members of the secret.
    values: BTreeMap<String, String>,
    config: Config,
    proxy: Publisher,
}

impl<S: ReadSecret, E: Fn() -> Environment<'static>> Echo<S, E> {
    /// Reads the configuration. `environment` returns the process's environment, and `secrets` makes the store that has
    /// the secret named by `GRIP_SECRET`. The secret's members replace the environment variables of the same names.
    pub(crate) async fn start(
        environment: E,
        secrets: impl FnOnce(&Environment<'_>) -> Result<S, InvalidVariable>,
        now: Instant,
    ) -> Result<Self, ConfigError> {
        const EXAMPLE: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:grip";
        let text = |text: &str| Ok::<_, Infallible>(text.to_owned());
        let (secret, values) = match environment().parse_optional("GRIP_SECRET", EXAMPLE, text)? {
            Some(id) => {
                let store = secrets(&environment())?;
                let values = read(&store, &id).await?;
                (Some((id, store)), values)
            }
            None => (None, BTreeMap::new()),
        };

        let current = RefCell::new(Rc::new(current(environment(), values)?));
        Ok(Self { secret, environment, current, read_at: now.into() })
    }

    /// Handles an event, and once more if a check failed and the secret has changed since it was read.
    pub(crate) async fn handle(&self, event: &RawValue, now: Instant) -> Result<LambdaResponse, Error> {
        let outcome = self.handle_once(event).await;
        if is_refused(&outcome) && self.read_again(now).await {
            tracing::info!("the secret has changed; the request is checked again");
            return self.handle_once(event).await;
        }
        outcome
    }

    async fn handle_once(&self, event: &RawValue) -> Result<LambdaResponse, Error> {
        let current = Rc::clone(&self.current.borrow());
        handle(&current.proxy, &current.config, event).await
    }

    /// Reads the secret again, if the last read is old enough. Returns whether the configuration has changed.
    async fn read_again(&self, now: Instant) -> bool {
        let Some((id, store)) = &self.secret else { return false };
        if now.duration_since(self.read_at.get()) < BETWEEN_READS {
            return false;
        }

        self.read_at.set(now);
        let changed = async {
            let values = read(store, id).await?;
            let changed = values != self.current.borrow().values;
            if changed {
                let current = Rc::new(current((self.environment)(), values)?);
                self.current.replace(current);
            }
            Ok::<_, ConfigError>(changed)
        };
        changed.await.unwrap_or_else(|error| {
            tracing::warn!("the secret cannot be used, and the one before stays in use: {error}");
            false
        })
    }
}

/// Whether a key or token was wrong: the caller's, the proxy's, or the one for the proxy's control endpoint.
fn is_refused(outcome: &Result<LambdaResponse, Error>) -> bool {
    match outcome {
        Ok(LambdaResponse::Rest(response)) => [401, 403].contains(&response.status_code),
        Ok(LambdaResponse::Http(response)) => [401, 403].contains(&response.status_code),
        Ok(LambdaResponse::Alb(response)) => [401, 403].contains(&response.status_code),
        Err(Error::PublishFailed(PublishError::Refused { status, .. })) => [401, 403].contains(status),
        Err(_) => false,
    }
}

async fn read(secrets: &impl ReadSecret, id: &str) -> Result<BTreeMap<String, String>, ConfigError> {
    let text = secrets.read(id, Version::Current).await?.ok_or(ConfigError::NoObject)?;
    serde_json::from_str(&text).map_err(|_| ConfigError::NoObject)
}

fn current(environment: Environment<'_>, values: BTreeMap<String, String>) -> Result<Current, ConfigError> {
    let config = Config::from_env(&environment.with(values.clone()))?;
    let proxy = Publisher::new(&config.url)?.prefixed(&config.prefix);
    Ok(Current { values, config, proxy })
}

#[cfg(test)]
mod tests;
