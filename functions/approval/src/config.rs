use postern_runtime::aws::failure;
use postern_runtime::env::{Environment, InvalidVariable};

use crate::link::{Key, KeyTooShort};

/// Why there is no key to sign with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Variable(#[from] InvalidVariable),
    #[error("the secret that APPROVAL_KEY_SECRET names cannot be read: {0}")]
    Unreadable(String),
    #[error("the secret that APPROVAL_KEY_SECRET names: {0}")]
    Secret(KeyTooShort),
}

/// What the function needs of AWS Secrets Manager.
pub(crate) trait Secrets {
    async fn secret(&self, id: &str) -> Result<String, Error>;
}

impl Secrets for aws_sdk_secretsmanager::Client {
    async fn secret(&self, id: &str) -> Result<String, Error> {
        let secret = self.get_secret_value().secret_id(id).send().await;
        let secret = secret.map_err(|error| Error::Unreadable(failure(&error).1))?;
        secret.secret_string.ok_or_else(|| Error::Unreadable("it is binary".into()))
    }
}

/// The key: the secret that `APPROVAL_KEY_SECRET` names, else `APPROVAL_KEY` itself.
pub(crate) async fn key(environment: &Environment<'_>, secrets: &impl Secrets) -> Result<Key, Error> {
    let id = environment.parse("APPROVAL_KEY_SECRET", "", |id| Ok::<_, KeyTooShort>(id.to_owned()))?;
    if id.is_empty() {
        return Ok(environment.parse("APPROVAL_KEY", "", |text| Key::new(text.as_bytes()))?);
    }
    Key::new(secrets.secret(&id).await?.as_bytes()).map_err(Error::Secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Holds one secret, or none.
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
            (&[], None, "environment variable APPROVAL_KEY: "),
            (&[("APPROVAL_KEY", "short")], None, "environment variable APPROVAL_KEY: "),
            (NAMED, Some("short"), "the secret that APPROVAL_KEY_SECRET names: "),
            (NAMED, None, "cannot be read: not there"),
        ] {
            let found = key(&Environment::of(variables), &Safe(secret)).await.map(|_| ());
            let said = found.map_or_else(|error| error.to_string(), |()| String::new());
            assert_eq!(said.is_empty(), fault.is_empty(), "{said}");
            assert!(said.contains(fault), "{said}");
            assert!(!said.contains("short;"), "{said}");
        }
    }
}
