//! Values that may be secret, and where they come from. They are read again for every use, so that a changed file takes
//! effect without a restart.

use std::env;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// A text, or the place that contains it. `Debug` shows the place and never the text.
#[derive(Clone, Deserialize)]
#[serde(
    untagged,
    expecting = "it must be a text, { env = \"NAME\" }, { file = \"PATH\" } or { credential = \"NAME\" }"
)]
pub enum Secret {
    /// The text itself, for values that are not secret.
    Text(String),
    /// The name of an environment variable of the worker.
    Env {
        /// The variable.
        env: String,
    },
    /// A file. White space at its end does not count.
    File {
        /// The path.
        file: PathBuf,
    },
    /// A credential that systemd hands to the service (`LoadCredential=`).
    Credential {
        /// The credential's name.
        credential: String,
    },
}

/// Why a secret cannot be read. The message contains its place, never its text.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The variable is not set, or not UTF-8.
    #[error("the environment variable {0} is not set to a text")]
    Variable(String),
    /// The file cannot be read, or is not UTF-8.
    #[error("the file {path} cannot be read: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        reason: std::io::Error,
    },
    /// The worker was not started by systemd with credentials.
    #[error("CREDENTIALS_DIRECTORY is not set: the unit needs LoadCredential={0}:PATH")]
    NoCredentials(String),
    /// The credential's name is a path.
    #[error("the credential {0:?} must be a name without a slash")]
    CredentialName(String),
}

impl Secret {
    /// The text.
    pub fn read(&self) -> Result<String, SecretError> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            Self::Env { env: name } => env::var(name).map_err(|_| SecretError::Variable(name.clone())),
            Self::File { file } => read_file(file.clone()),
            Self::Credential { credential } => {
                let name = Path::new(credential);
                if name.file_name() != Some(name.as_os_str()) {
                    return Err(SecretError::CredentialName(credential.clone()));
                }
                let folder = env::var_os("CREDENTIALS_DIRECTORY")
                    .ok_or_else(|| SecretError::NoCredentials(credential.clone()))?;
                read_file(Path::new(&folder).join(name))
            }
        }
    }

    pub(super) fn resolve(&mut self, folder: &Path) {
        if let Self::File { file } = self {
            *file = folder.join(&*file);
        }
    }
}

fn read_file(path: PathBuf) -> Result<String, SecretError> {
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim_end().to_owned()),
        Err(reason) => Err(SecretError::File { path, reason }),
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => write!(f, "(text)"),
            Self::Env { env } => write!(f, "env {env}"),
            Self::File { file } => write!(f, "file {}", file.display()),
            Self::Credential { credential } => write!(f, "credential {credential}"),
        }
    }
}
