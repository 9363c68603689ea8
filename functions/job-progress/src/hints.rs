//! Publishes hints to the channels `job-{JobId}` and `jobs-{tenant}` of a GRIP proxy, where one is configured.
//!
//! A hint names the job and its state, `{"jobId": "ba78…", "state": "ACCEPTED"}`, and nothing else. A hint that cannot be
//! published is counted as `HintErrors` and forgotten: listeners read the API from time to time as well.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::{Duration, Instant};

use grip::{GripUrl, Item, PublishError, Publisher, WsMessage};
use postern_jobs::JobItem;
use postern_runtime::env::{Environment, InvalidVariable};
use postern_runtime::metrics;
use postern_runtime::secrets::{ReadSecret, UnreadableSecret, Version};
use postern_types::Tenant;
use serde_json::json;

use crate::handler::Hint;

/// The time limit of one publication: hints must not hold up the next message.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The shortest time between two reads of the secret.
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

/// The proxy, if there is one.
pub(crate) struct Hints<S, E> {
    /// `GRIP_SECRET`: the id of the secret with `GRIP_URL`, and its store.
    secret: Option<(String, S)>,
    environment: E,
    proxy: RefCell<Option<Publisher>>,
    read_at: Cell<Instant>,
}

impl<S: ReadSecret, E: Fn() -> Environment<'static>> Hints<S, E> {
    /// Reads the proxy's address. Without `GRIP_SECRET` and `GRIP_URL` there is no proxy.
    pub(crate) async fn start(
        environment: E,
        secrets: impl FnOnce(&Environment<'_>) -> Result<S, InvalidVariable>,
    ) -> Result<Self, ConfigError> {
        const EXAMPLE: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:grip";
        let text = |text: &str| Ok::<_, Infallible>(text.to_owned());
        let secret = environment().parse_optional("GRIP_SECRET", EXAMPLE, text)?;
        let secret = secret.map(|id| Ok::<_, ConfigError>((id, secrets(&environment())?))).transpose()?;

        let read_at = Cell::new(Instant::now());
        let hints = Self { secret, environment, proxy: RefCell::default(), read_at };
        hints.connect().await?;
        Ok(hints)
    }

    /// Makes the client of the proxy anew, with the secret's current values.
    async fn connect(&self) -> Result<(), ConfigError> {
        let text = |text: &str| Ok::<_, Infallible>(text.to_owned());
        let mut values = BTreeMap::new();
        if let Some((id, store)) = &self.secret {
            let secret = store.read(id, Version::Current).await?.ok_or(ConfigError::NoObject)?;
            values = serde_json::from_str(&secret).map_err(|_| ConfigError::NoObject)?;
        }

        let environment = (self.environment)().with(values);
        let url = environment.parse_optional("GRIP_URL", "http://127.0.0.1:5561/", GripUrl::parse)?;
        let prefix = environment.parse_optional("GRIP_PREFIX", "myapp-", text)?.unwrap_or_default();
        let proxy = url.map(|url| Publisher::new(&url)).transpose()?;
        self.proxy.replace(proxy.map(|proxy| proxy.prefixed(prefix).timeout(TIMEOUT)));
        Ok(())
    }

    async fn publish(&self, items: &[Item]) -> Result<(), PublishError> {
        let proxy = self.proxy.borrow().clone();
        match proxy {
            Some(proxy) => proxy.publish(items).await,
            None => Ok(()),
        }
    }

    /// Reads the secret again after the proxy refused its key, so that a rotation needs no restart.
    async fn is_rotated(&self, error: &PublishError) -> bool {
        let is_key = matches!(error, PublishError::Refused { status: 401 | 403, .. });
        if !is_key || self.secret.is_none() || self.read_at.get().elapsed() < BETWEEN_READS {
            return false;
        }

        self.read_at.set(Instant::now());
        match self.connect().await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!("the secret cannot be used, and the one before stays in use: {error}");
                false
            }
        }
    }
}

impl<S: ReadSecret, E: Fn() -> Environment<'static>> Hint for Hints<S, E> {
    async fn hint(&self, tenant: &Tenant, jobs: &[JobItem]) {
        if jobs.is_empty() || self.proxy.borrow().is_none() {
            return;
        }

        let items: Vec<_> = jobs.iter().flat_map(|job| items(tenant, job)).collect();
        let mut published = self.publish(&items).await;
        if let Err(error) = &published
            && self.is_rotated(error).await
        {
            published = self.publish(&items).await;
        }
        if let Err(error) = published {
            metrics::count("HintErrors");
            tracing::warn!(%error, "the hints could not be published");
        }
    }
}

/// The hints at one job, for those who watch the job and for those who watch the tenant.
fn items(tenant: &Tenant, job: &JobItem) -> [Item; 2] {
    let hint = json!({"jobId": job.job_id, "state": job.state.as_str()}).to_string();
    let channels = [format!("job-{}", job.job_id), format!("jobs-{tenant}")];
    channels.map(|channel| Item::new(channel).websocket(WsMessage::text(&*hint)))
}

#[cfg(test)]
mod tests;
