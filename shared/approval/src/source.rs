//! Where the key that seals the links comes from.

use std::convert::Infallible;

use postern_runtime::env::{Environment, InvalidVariable};

use crate::link::Key;

/// The source of the key that seals the links.
pub enum KeySource {
    /// The secret in AWS Secrets Manager with this ARN or name, from `APPROVAL_KEY_SECRET`.
    Secret(String),
    /// The key itself, from `APPROVAL_KEY`.
    Fixed(Box<Key>),
}

impl KeySource {
    /// Reads the id of the secret, or else the key.
    pub fn from_env(environment: &Environment<'_>) -> Result<Self, InvalidVariable> {
        const EXAMPLE_ID: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:approval";
        const EXAMPLE_KEY: &str = "a-text-of-at-least-32-random-characters";

        let text = |text: &str| Ok::<_, Infallible>(text.to_owned());
        match environment.parse_optional("APPROVAL_KEY_SECRET", EXAMPLE_ID, text)? {
            Some(id) => Ok(Self::Secret(id)),
            None => environment
                .required("APPROVAL_KEY", EXAMPLE_KEY, |text| Key::new(text.as_bytes()))
                .map(|key| Self::Fixed(Box::new(key))),
        }
    }
}
