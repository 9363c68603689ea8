//! The proxy's signature: `Grip-Sig`, a JSON web token (RFC 7519) in every request that the proxy makes.

use std::time::SystemTime;

use http::HeaderMap;
use serde::Deserialize;

use crate::key::Key;
#[cfg(doc)]
use crate::token::TOKEN_CHARS;
use crate::token::{self, TokenProblem};

/// Why a token is not a valid signature of the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSignature {
    /// The token is not three parts of base64url with JSON inside, or it is longer than [`TOKEN_CHARS`].
    #[error("Grip-Sig is not a JSON web token")]
    Malformed,
    /// The token names another algorithm than the key's, or requires an extension (`crit`).
    #[error("Grip-Sig is signed with another algorithm than the key's")]
    Algorithm,
    /// The signature does not match the key.
    #[error("Grip-Sig is signed with another key")]
    Signature,
    /// The token has expired, or it has no expiry time.
    #[error("Grip-Sig has expired, or it has no exp")]
    Expired,
    /// The token is not valid yet (`nbf`).
    #[error("Grip-Sig is not valid yet")]
    NotYet,
    /// The token names another issuer, or no issuer.
    #[error("Grip-Sig comes from another issuer than the configured one")]
    Issuer,
}

/// The origin of a request, as far as its signature shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The proxy sent the request: its signature is valid. Its `Meta-*` headers hold what the function stored.
    Proxy,
    /// The origin is unknown: there is no signature, no key to check it with, or the signature is invalid for the
    /// given reason.
    Unknown(Option<InvalidSignature>),
}

/// The request has no valid signature although one is required.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotSigned {
    /// The request has no `Grip-Sig`, or the verifier has no key to check it with.
    #[error("the request has no Grip-Sig that can be checked; only the proxy's requests are served")]
    Missing,
    /// The request's `Grip-Sig` is invalid.
    #[error("{0}; only the proxy's requests are served")]
    Invalid(#[from] InvalidSignature),
}

/// Checks the `Grip-Sig` of requests.
///
/// A function's address may be public, and everyone can write a request that looks like the proxy's. The signature
/// tells them apart.
///
/// ```
/// use grip::{Key, Origin, Verifier};
///
/// let verifier = Verifier::new(Key::parse("changeme")?).issuer("pushpin").required();
/// let request = http::Request::post("/").body(()).unwrap();
/// // The request has no signature, so it is refused:
/// assert!(verifier.check(request.headers()).is_err());
/// # Ok::<_, grip::InvalidKey>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Verifier {
    key: Option<Key>,
    issuer: Option<String>,
    required: bool,
}

impl Verifier {
    /// A verifier with this key.
    pub fn new(key: Key) -> Self {
        Self { key: Some(key), ..Self::default() }
    }

    /// Trusts only tokens of this issuer: Pushpin's `sig_iss`, or `fastly:<service id>` with Fanout.
    ///
    /// Fanout's key signs for every service of every customer. There, only the issuer tells your service's requests
    /// from those of others.
    #[must_use]
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// Refuses every request without a valid signature. A verifier without a key then refuses every request.
    #[must_use]
    pub fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// The origin of the request with these headers. Fails if a signature is required and the request has no valid
    /// one.
    pub fn check(&self, headers: &HeaderMap) -> Result<Origin, NotSigned> {
        self.check_at(headers, SystemTime::now())
    }

    /// Like [`check`](Self::check), at the given time.
    pub fn check_at(&self, headers: &HeaderMap, now: SystemTime) -> Result<Origin, NotSigned> {
        let checked = match (headers.get("grip-sig"), &self.key) {
            (Some(token), Some(key)) => Some(self.verify(key, token.as_bytes(), now)),
            _ => None,
        };

        match checked {
            Some(Ok(())) => Ok(Origin::Proxy),
            Some(Err(error)) if self.required => Err(error.into()),
            None if self.required => Err(NotSigned::Missing),
            Some(Err(error)) => Ok(Origin::Unknown(Some(error))),
            None => Ok(Origin::Unknown(None)),
        }
    }

    /// Checks one token.
    fn verify(&self, key: &Key, token: &[u8], now: SystemTime) -> Result<(), InvalidSignature> {
        let claims: Claims = token::verified(key, token, now)?;
        match &self.issuer {
            Some(issuer) if claims.iss.as_ref() != Some(issuer) => Err(InvalidSignature::Issuer),
            _ => Ok(()),
        }
    }
}

impl From<TokenProblem> for InvalidSignature {
    fn from(problem: TokenProblem) -> Self {
        match problem {
            TokenProblem::Malformed => Self::Malformed,
            TokenProblem::Algorithm => Self::Algorithm,
            TokenProblem::Signature => Self::Signature,
            TokenProblem::Expired => Self::Expired,
            TokenProblem::NotYet => Self::NotYet,
        }
    }
}

#[derive(Deserialize)]
struct Claims {
    iss: Option<String>,
}

/// A token for the control endpoint, signed with a secret, that expires after `life`. Returns `None` if the key is a
/// public key.
#[cfg(any(test, feature = "publish"))]
pub(crate) fn token(
    key: &Key,
    issuer: Option<&str>,
    life: std::time::Duration,
    now: SystemTime,
) -> Option<String> {
    let end = (now + life).duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    let claims = match issuer {
        Some(issuer) => serde_json::json!({ "iss": issuer, "exp": end }),
        None => serde_json::json!({ "exp": end }),
    };
    token::sign(key, &claims)
}

#[cfg(test)]
mod tests;
