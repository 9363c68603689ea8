//! The function's configuration: the key that seals the links.

use postern_runtime::aws::failure;
use postern_runtime::env::{Environment, InvalidVariable};

use crate::link::{Key, KeyTooShort};

/// The function's configuration.
pub(crate) struct Config {
    /// The key that seals the links.
    pub(crate) key: Key,
}

/// The reasons for which the configuration is unusable.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Variable(#[from] InvalidVariable),
    #[error("the secret in APPROVAL_KEY_SECRET cannot be read: {0}")]
    Unreadable(String),
    #[error("the secret in APPROVAL_KEY_SECRET is too short: {0}")]
    Secret(KeyTooShort),
}

/// The call of AWS Secrets Manager that the configuration makes.
pub(crate) trait Secrets {
    async fn secret(&self, id: &str) -> Result<String, Error>;
}

impl Secrets for aws_sdk_secretsmanager::Client {
    async fn secret(&self, id: &str) -> Result<String, Error> {
        let secret = self.get_secret_value().secret_id(id).send().await;
        let secret = secret.map_err(|error| Error::Unreadable(failure(&error).1))?;
        secret.secret_string.ok_or_else(|| Error::Unreadable("it is binary; store it as text".into()))
    }
}

impl Config {
    /// Reads the key from the secret whose id or ARN is in `APPROVAL_KEY_SECRET`, or from `APPROVAL_KEY` itself.
    pub(crate) async fn from_env(
        environment: &Environment<'_>,
        secrets: &impl Secrets,
    ) -> Result<Self, Error> {
        const EXAMPLE_ID: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:approval";
        const EXAMPLE_KEY: &str = "a-text-of-at-least-32-random-characters";

        let id = environment
            .parse_optional("APPROVAL_KEY_SECRET", EXAMPLE_ID, |id| Ok::<_, KeyTooShort>(id.to_owned()))?;
        let key = match id {
            Some(id) => Key::new(secrets.secret(&id).await?.as_bytes()).map_err(Error::Secret)?,
            None => environment.required("APPROVAL_KEY", EXAMPLE_KEY, |text| Key::new(text.as_bytes()))?,
        };
        Ok(Self { key })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// AWS Secrets Manager with one secret, or without any.
    struct Safe(Option<&'static str>);

    impl Secrets for Safe {
        async fn secret(&self, _id: &str) -> Result<String, Error> {
            self.0.map(str::to_owned).ok_or_else(|| Error::Unreadable("not there".into()))
        }
    }

    #[tokio::test]
    async fn the_key_is_in_the_environment_or_in_secrets_manager() {
        const LONG: &str = "a key of thirty-two bytes or more";
        const NAMED: &[(&str, &str)] = &[("APPROVAL_KEY_SECRET", "arn")];
        for (variables, secret, fault) in [
            (&[("APPROVAL_KEY", LONG)] as &[_], None, ""),
            (NAMED, Some(LONG), ""),
            (&[], None, "environment variable APPROVAL_KEY: it is not set; set it like APPROVAL_KEY=a-text"),
            (&[("APPROVAL_KEY", "short")], None, "environment variable APPROVAL_KEY: "),
            (NAMED, Some("short"), "the secret in APPROVAL_KEY_SECRET is too short: "),
            (NAMED, None, "cannot be read: not there"),
        ] {
            let found = Config::from_env(&Environment::of(variables), &Safe(secret)).await.map(|_| ());
            let message = found.map_or_else(|error| error.to_string(), |()| String::new());
            assert_eq!(message.is_empty(), fault.is_empty(), "{message}");
            assert!(message.contains(fault), "{message}");
            assert!(!message.contains("short;"), "{message}");
        }
    }
}
