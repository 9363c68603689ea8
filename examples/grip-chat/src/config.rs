//! The program's configuration, from environment variables.

use std::env::{self, VarError};

use grip::{GripUrl, Key, Verifier};
use ring::rand::{SecureRandom as _, SystemRandom};

/// Anything that ends the program.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The program's configuration.
pub(crate) struct Config {
    /// `PORT`: the port on loopback. 9000 if unset; 0 chooses a free one.
    pub(crate) port: u16,
    /// `GRIP_URL`: the proxy's control endpoint, which may name the key of its signatures as `verify-key`.
    pub(crate) proxy: GripUrl,
    /// Checks the proxy's signatures, if `GRIP_URL` names a key.
    pub(crate) verifier: Verifier,
    /// `CHAT_KEY`: the secret that signs the users' tokens. Without it, a random one: tokens then end with the process.
    pub(crate) key: Key,
    /// `CHAT_TABLE`: the DynamoDB table of the history. Without it, the history is in memory.
    pub(crate) table: Option<String>,
    /// `CHAT_KEEP_ALIVE`: seconds between the keep-alives of an idle connection. 30 if unset.
    pub(crate) keep_alive: u32,
}

impl Config {
    pub(crate) fn from_env() -> Result<Self, Failure> {
        let proxy = GripUrl::parse(&variable("GRIP_URL")?.unwrap_or("http://127.0.0.1:5561/".to_owned()))?;

        let mut verifier = Verifier::default();
        if let Some(key) = proxy.verify_key() {
            verifier = Verifier::new(key.clone()).required();
        }
        if let Some(issuer) = proxy.verify_issuer() {
            verifier = verifier.issuer(issuer);
        }

        let key = match variable("CHAT_KEY")? {
            Some(text) => Key::parse(&text)?,
            None => random_key()?,
        };

        Ok(Self {
            port: number("PORT")?.map_or(Ok(9_000), u16::try_from)?,
            proxy,
            verifier,
            key,
            table: variable("CHAT_TABLE")?,
            keep_alive: number("CHAT_KEEP_ALIVE")?.unwrap_or(30),
        })
    }
}

fn variable(name: &str) -> Result<Option<String>, Failure> {
    match env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(VarError::NotPresent) => Ok(None),
        Err(error) => Err(format!("{name}: {error}").into()),
    }
}

fn number(name: &str) -> Result<Option<u32>, Failure> {
    let value =
        variable(name)?.map(|value| value.parse().map_err(|_| format!("{name} is not a number: {value}")));
    Ok(value.transpose()?)
}

fn random_key() -> Result<Key, Failure> {
    let mut secret = [0; 32];
    SystemRandom::new().fill(&mut secret).map_err(|_| "the system has no random numbers")?;
    Ok(Key::from_secret(&secret)?)
}
