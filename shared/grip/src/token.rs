//! JSON web tokens (RFC 7519): reading one whose signature a key verifies. What the claims mean is the caller's matter.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use serde::Deserialize;

use crate::key::Key;

/// The longest token that is checked, in characters. The tokens of Pushpin and Fanout have fewer than 1,000.
pub const TOKEN_CHARS: usize = 8_192;

/// Why a token proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenProblem {
    /// It is not three parts of base64url with JSON inside, or it is too long.
    Malformed,
    /// It names another algorithm than the key's, or requires an extension.
    Algorithm,
    /// The signature does not match the key.
    Signature,
    /// It has expired, or has no expiry time.
    Expired,
    /// It is not valid yet.
    NotYet,
}

/// The times between which a token is valid.
#[derive(Deserialize)]
struct Validity {
    exp: Option<f64>,
    nbf: Option<f64>,
}

/// The claims of a token that `key` signed and that is valid at `now`.
pub(crate) fn verified<T: for<'de> Deserialize<'de>>(
    key: &Key,
    token: &[u8],
    now: SystemTime,
) -> Result<T, TokenProblem> {
    let (header, claims, signature) = parts(token).ok_or(TokenProblem::Malformed)?;
    let signed = &token[..token.len() - signature.len() - 1];

    // The key decides the algorithm, never the token: RFC 8725, section 3.1.
    let header: Header = decode_part(header)?;
    if header.alg != key.algorithm() || header.crit.is_some() {
        return Err(TokenProblem::Algorithm);
    }
    let signature = BASE64URL.decode(signature).map_err(|_| TokenProblem::Malformed)?;
    if !key.verifies(signed, &signature) {
        return Err(TokenProblem::Signature);
    }

    // The claims mean nothing before the signature is verified.
    let validity: Validity = decode_part(claims)?;
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    if !validity.exp.is_some_and(|end| now < end) {
        return Err(TokenProblem::Expired);
    }
    if validity.nbf.is_some_and(|start| now < start) {
        return Err(TokenProblem::NotYet);
    }
    decode_part(claims)
}

/// The header, the claims and the signature of a compact token.
fn parts(token: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    if token.len() > TOKEN_CHARS {
        return None;
    }

    let mut parts = token.split(|byte| *byte == b'.');
    let three = (parts.next()?, parts.next()?, parts.next()?);
    parts.next().is_none().then_some(three)
}

/// Decodes the JSON in one part of a token.
fn decode_part<T: for<'de> Deserialize<'de>>(part: &[u8]) -> Result<T, TokenProblem> {
    let json = BASE64URL.decode(part).map_err(|_| TokenProblem::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| TokenProblem::Malformed)
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    crit: Option<serde::de::IgnoredAny>,
}

/// A token with these claims, signed with a secret. Returns `None` if the key is a public key.
pub(crate) fn sign(key: &Key, claims: &serde_json::Value) -> Option<String> {
    let header = BASE64URL.encode(br#"{"alg":"HS256","typ":"JWT"}"#);
    let mut token = format!("{header}.{}", BASE64URL.encode(claims.to_string()));
    let signature = BASE64URL.encode(key.sign(token.as_bytes())?);

    token.push('.');
    token.push_str(&signature);
    Some(token)
}
