//! Publishes hints to the channels `job-{JobId}` and `jobs-{tenant}` of a GRIP proxy, where one is configured.
//!
//! A hint names the job and its state, `{"jobId": "ba78…", "state": "ACCEPTED"}`, and nothing else. Hints that cannot be
//! published are counted as `HintErrors` and forgotten: listeners read the API from time to time as well.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use grip::{GripUrl, Item, PublishError, Publisher, WsMessage};
use postern_jobs::Change;
use postern_runtime::env::{Environment, InvalidVariable};
use postern_runtime::metrics;
use postern_runtime::rotation::{ConfigError, Rotating};
use postern_runtime::secrets::ReadSecret;
use serde_json::json;

use crate::handler::Hint;

/// The time limit of one publication: hints must not hold up the next event.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The most jobs whose hints are in one publication, so that it stays below the 64 KiB that proxies accept.
const JOBS_OF_A_PUBLICATION: usize = 100;

/// The proxy, if there is one.
pub(crate) struct Hints<S>(Rotating<Option<Publisher>, S>);

impl<S: ReadSecret> Hints<S> {
    /// Reads the proxy's address. Without `GRIP_SECRET` and `GRIP_URL` there is no proxy.
    pub(crate) async fn start(
        environment: impl Fn() -> Environment<'static> + 'static,
        secrets: impl FnOnce(&Environment<'_>) -> Result<S, InvalidVariable>,
        now: Instant,
    ) -> Result<Self, ConfigError> {
        Ok(Self(Rotating::start(environment, secrets, proxy, now).await?))
    }

    /// Publishes, and once more with the secret's new values if the proxy refuses the key before its rotation.
    async fn publish(&self, items: &[Item]) -> Result<(), PublishError> {
        let published = self.publish_once(items).await;
        let is_refused = matches!(published, Err(PublishError::Refused { status: 401 | 403, .. }));
        if is_refused && self.0.read_again(Instant::now()).await {
            return self.publish_once(items).await;
        }
        published
    }

    async fn publish_once(&self, items: &[Item]) -> Result<(), PublishError> {
        match &*self.0.current() {
            Some(proxy) => proxy.publish(items).await,
            None => Ok(()),
        }
    }
}

impl<S: ReadSecret> Hint for Hints<S> {
    async fn hint(&self, changes: &[Change]) {
        for changes in changes.chunks(JOBS_OF_A_PUBLICATION) {
            let items: Vec<_> = changes.iter().flat_map(items).collect();

            // A proxy that does not answer would hold up the other publications as long as this one.
            if let Err(error) = self.publish(&items).await {
                metrics::count("HintErrors");
                tracing::warn!(%error, "the hints could not be published");
                return;
            }
        }
    }
}

/// The client of the proxy's control endpoint.
fn proxy(environment: &Environment<'_>) -> Result<Option<Publisher>, ConfigError> {
    let text = |text: &str| Ok::<_, Infallible>(text.to_owned());
    let url = environment.parse_optional("GRIP_URL", "http://127.0.0.1:5561/", GripUrl::parse)?;
    let prefix = environment.parse_optional("GRIP_PREFIX", "myapp-", text)?.unwrap_or_default();
    let Some(url) = url else { return Ok(None) };

    let proxy = Publisher::new(&url).map_err(|error| ConfigError::Unusable(error.to_string()))?;
    Ok(Some(proxy.prefixed(prefix).timeout(TIMEOUT)))
}

/// The hints at one job, for those who watch the job and for those who watch the tenant.
fn items(change: &Change) -> [Item; 2] {
    let Change { tenant, job_id, state } = change;
    let hint = json!({"jobId": job_id, "state": state.as_str()}).to_string();
    let channels = [format!("job-{job_id}"), format!("jobs-{tenant}")];
    channels.map(|channel| Item::new(channel).websocket(WsMessage::text(&*hint)))
}

#[cfg(test)]
mod tests;
