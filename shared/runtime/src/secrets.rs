//! Reads secrets from AWS Secrets Manager with one signed request.
//!
//! The SDK's client of Secrets Manager makes a function that calls nothing else of AWS twice as large. This module only
//! reads; it keeps no secret.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use crate::env::{Environment, InvalidVariable};
use crate::signed::{Service, SignedClient};

/// A secret has at most 65,536 bytes. Three attempts stay below the functions' own timeout.
const SECRETS_MANAGER: Service = Service {
    name: "secretsmanager",
    target: "secretsmanager",
    content_type: "application/x-amz-json-1.1",
    attempt: Duration::from_secs(3),
    pause: Duration::from_millis(100),
    answer_bytes: 262_144,
};

/// Why a secret cannot be read. The text contains no part of the secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the secret {id} cannot be read: {reason}")]
pub struct UnreadableSecret {
    id: String,
    reason: String,
}

/// The version of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// The version that is in use, `AWSCURRENT`.
    Current,
    /// The version that was in use before the last rotation, `AWSPREVIOUS`.
    Previous,
}

impl Version {
    fn stage(self) -> &'static str {
        match self {
            Self::Current => "AWSCURRENT",
            Self::Previous => "AWSPREVIOUS",
        }
    }
}

/// A store of secrets: AWS Secrets Manager, or a stand-in in a test.
#[expect(async_fn_in_trait, reason = "functions run on one thread, so the future need not be Send")]
pub trait ReadSecret {
    /// The text of a secret, by its ARN or name. A version that does not exist is `None`.
    async fn read(&self, id: &str, version: Version) -> Result<Option<String>, UnreadableSecret>;
}

/// The client of AWS Secrets Manager.
pub struct SecretsManager(SignedClient);

impl SecretsManager {
    /// A client with the Region, the credentials and the endpoint (`AWS_ENDPOINT_URL`) that Lambda sets for a function.
    pub fn from_env(environment: &Environment<'_>) -> Result<Self, InvalidVariable> {
        SignedClient::from_env(environment, SECRETS_MANAGER).map(Self)
    }
}

impl ReadSecret for SecretsManager {
    async fn read(&self, id: &str, version: Version) -> Result<Option<String>, UnreadableSecret> {
        let unreadable = |reason: &str| UnreadableSecret { id: id.to_owned(), reason: reason.to_owned() };

        let body = json!({"SecretId": id, "VersionStage": version.stage()}).to_string();
        match self.0.call("GetSecretValue", &body).await {
            Ok(answer) => text(&answer).map(Some).map_err(unreadable),
            Err(failed) if failed.code == "ResourceNotFoundException" && version == Version::Previous => {
                Ok(None)
            }
            Err(failed) => Err(unreadable(&failed.reason)),
        }
    }
}

/// Reads the service's answer.
fn text(answer: &[u8]) -> Result<String, &'static str> {
    #[derive(Deserialize)]
    struct Secret {
        #[serde(rename = "SecretString")]
        text: Option<String>,
    }

    let secret: Secret =
        serde_json::from_slice(answer).map_err(|_| "the answer is not one of AWS Secrets Manager")?;
    secret.text.ok_or("it is binary; store it as text")
}

#[cfg(test)]
mod tests;
