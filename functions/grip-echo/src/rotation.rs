//! The function with its secret: a request that fails a check is checked once more if the secret has changed since it was
//! read.

use std::time::Instant;

use grip::lambda::LambdaResponse;
use grip::{PublishError, Publisher};
use postern_runtime::env::{Environment, InvalidVariable};
use postern_runtime::rotation::{ConfigError, Rotating};
use postern_runtime::secrets::ReadSecret;
use serde_json::value::RawValue;

use crate::config::Config;
use crate::handler::{Error, handle};

/// The function. Its configuration and its client of the proxy are replaced together.
pub(crate) struct Echo<S>(Rotating<Current, S>);

struct Current {
    config: Config,
    proxy: Publisher,
}

impl<S: ReadSecret> Echo<S> {
    /// Reads the configuration: `environment` is the process's, and `secrets` makes the store of the secret in
    /// `GRIP_SECRET`.
    pub(crate) async fn start(
        environment: impl Fn() -> Environment<'static> + 'static,
        secrets: impl FnOnce(&Environment<'_>) -> Result<S, InvalidVariable>,
        now: Instant,
    ) -> Result<Self, ConfigError> {
        Ok(Self(Rotating::start(environment, secrets, current, now).await?))
    }

    /// Handles an event, and once more if a check failed and the secret has changed since it was read.
    pub(crate) async fn handle(&self, event: &RawValue, now: Instant) -> Result<LambdaResponse, Error> {
        let outcome = self.handle_once(event).await;
        if is_refused(&outcome) && self.0.read_again(now).await {
            return self.handle_once(event).await;
        }
        outcome
    }

    async fn handle_once(&self, event: &RawValue) -> Result<LambdaResponse, Error> {
        let current = self.0.current();
        handle(&current.proxy, &current.config, event).await
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

fn current(environment: &Environment<'_>) -> Result<Current, ConfigError> {
    let config = Config::from_env(environment)?;
    let proxy = Publisher::new(&config.url).map_err(|error| ConfigError::Unusable(error.to_string()))?;
    Ok(Current { proxy: proxy.prefixed(&config.prefix), config })
}

#[cfg(test)]
mod tests;
