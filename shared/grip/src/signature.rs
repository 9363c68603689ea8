//! Whether a request comes from the proxy: `Grip-Sig`, a JSON web token (RFC 7519).

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use http::HeaderMap;
use serde::Deserialize;

use crate::key::Key;

/// Longest token that is looked at, in characters. Pushpin's and Fanout's have under 1,000.
pub const TOKEN_CHARS: usize = 8_192;

/// Why a token does not show that the proxy made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSignature {
    /// Not three parts of base64url, or not JSON in them, or too long.
    #[error("Grip-Sig is not a JSON web token")]
    Malformed,
    /// It names another algorithm than the key's, or asks for an extension.
    #[error("Grip-Sig is not made by the algorithm of the key")]
    Algorithm,
    /// The key did not make it.
    #[error("Grip-Sig is not made with the key")]
    Signature,
    /// It says nothing about when it ends, or that it has ended.
    #[error("Grip-Sig has expired, or has no exp")]
    Expired,
    /// Its time has not come.
    #[error("Grip-Sig is not valid yet")]
    NotYet,
    /// Another proxy made it.
    #[error("Grip-Sig is another issuer's")]
    Issuer,
}

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// From the proxy: its signature is valid. What `Meta-*` says is what the function noted.
    Proxy,
    /// Nobody knows: there is no valid signature, or no key to check it with.
    Unknown(Option<InvalidSignature>),
}

/// A request without a valid signature, where one is required.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotSigned {
    /// There is no `Grip-Sig`.
    #[error("the request has no Grip-Sig, and only the proxy's requests are served")]
    Missing,
    /// There is one that proves nothing.
    #[error("{0}, and only the proxy's requests are served")]
    Invalid(#[from] InvalidSignature),
}

/// Checks `Grip-Sig`.
///
/// ```
/// use grip::{Key, Origin, Verifier};
///
/// let verifier = Verifier::new(Key::parse("changeme")?).issuer("pushpin").required();
/// let request = http::Request::post("/").body(()).unwrap();
/// // Serves nobody but the proxy:
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
    /// Checks with a key.
    pub fn new(key: Key) -> Self {
        Self { key: Some(key), ..Self::default() }
    }

    /// Trusts tokens of this issuer only: Pushpin's `sig_iss`, Fanout's `fastly:<service id>`. With Fanout,
    /// whose key signs for every service, this is what tells yours from others.
    #[must_use]
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// Refuses what has no valid signature. Without a key that is everything.
    #[must_use]
    pub fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// Where the request with these headers comes from; an error where a signature is required and there is
    /// no valid one.
    pub fn check(&self, headers: &HeaderMap) -> Result<Origin, NotSigned> {
        self.check_at(headers, SystemTime::now())
    }

    /// As [`check`](Self::check), at a given time.
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

    /// Whether a token is one of the key's, wherever it was found: for callers that hold the key and are not
    /// the proxy. Without a key none is.
    pub fn check_token(&self, token: &str) -> Result<(), InvalidSignature> {
        let key = self.key.as_ref().ok_or(InvalidSignature::Signature)?;
        self.verify(key, token.as_bytes(), SystemTime::now())
    }

    /// Checks one token.
    fn verify(&self, key: &Key, token: &[u8], now: SystemTime) -> Result<(), InvalidSignature> {
        let (header, claims, signature) = parts(token).ok_or(InvalidSignature::Malformed)?;
        let signed = &token[..token.len() - signature.len() - 1];
        let header: Header = part(header)?;
        if header.alg != key.algorithm() || header.crit.is_some() {
            return Err(InvalidSignature::Algorithm);
        }
        let signature = BASE64URL.decode(signature).map_err(|_| InvalidSignature::Malformed)?;
        if !key.verifies(signed, &signature) {
            return Err(InvalidSignature::Signature);
        }
        let claims: Claims = part(claims)?;
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        if !claims.exp.is_some_and(|end| now < end) {
            return Err(InvalidSignature::Expired);
        }
        if claims.nbf.is_some_and(|start| now < start) {
            return Err(InvalidSignature::NotYet);
        }
        match &self.issuer {
            Some(issuer) if claims.iss.as_ref() != Some(issuer) => Err(InvalidSignature::Issuer),
            _ => Ok(()),
        }
    }
}

/// The three parts of a compact token.
fn parts(token: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    if token.len() > TOKEN_CHARS {
        return None;
    }
    let mut parts = token.split(|byte| *byte == b'.');
    let three = (parts.next()?, parts.next()?, parts.next()?);
    parts.next().is_none().then_some(three)
}

fn part<T: for<'de> Deserialize<'de>>(part: &[u8]) -> Result<T, InvalidSignature> {
    let json = BASE64URL.decode(part).map_err(|_| InvalidSignature::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| InvalidSignature::Malformed)
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    crit: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Claims {
    iss: Option<String>,
    exp: Option<f64>,
    nbf: Option<f64>,
}

/// A token of a secret, such as the control endpoint wants: `iss` and, after `life`, the end.
/// `None` if the key is a public one.
#[cfg(any(test, feature = "publish"))]
pub(crate) fn token(
    key: &Key,
    issuer: Option<&str>,
    life: std::time::Duration,
    now: SystemTime,
) -> Option<String> {
    let end = (now + life).duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let claims = match issuer {
        Some(issuer) => serde_json::json!({ "iss": issuer, "exp": end }),
        None => serde_json::json!({ "exp": end }),
    };
    let header = BASE64URL.encode(br#"{"alg":"HS256","typ":"JWT"}"#);
    let mut token = format!("{header}.{}", BASE64URL.encode(claims.to_string()));
    let signature = BASE64URL.encode(key.sign(token.as_bytes())?);
    token.push('.');
    token.push_str(&signature);
    Some(token)
}

#[cfg(test)]
#[path = "signature_tests.rs"]
mod tests;
