//! Keys in the forms that people have them in.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use ring::{hmac, signature};
use serde::Deserialize;
use spki::der::{Decode as _, Document, asn1::ObjectIdentifier};

/// A key that signatures are checked with, and with it the one algorithm that they may be made by: a token
/// that names another is refused, whatever it holds. It is never printed.
#[derive(Clone)]
pub struct Key(Kind);

#[derive(Clone)]
enum Kind {
    Hs256(hmac::Key),
    Es256(Vec<u8>),
    Rs256 {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// DER of an `RSAPublicKey`.
    Rs256Der(Vec<u8>),
}

/// Why a text is not a key. Nothing of the text is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// Nothing there: an empty secret would be anyone's.
    #[error("the key is empty")]
    Empty,
    /// What follows `base64:`.
    #[error("what follows base64: is not base64")]
    Base64,
    /// What stands between the lines of a PEM.
    #[error("the PEM is damaged")]
    Pem,
    /// A private key, a certificate, or something else than a public key.
    #[error("a PEM of {0:?} is not a public key; take the one of \"PUBLIC KEY\"")]
    PemLabel(String),
    /// A public key of another kind.
    #[error("the public key is neither RSA nor EC on P-256")]
    Algorithm,
    /// A JWK lacks something or says something else.
    #[error("the JWK is not one: {0}")]
    Jwk(&'static str),
}

const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

impl Key {
    /// Reads a key as it stands in a configuration: a PEM (`-----BEGIN PUBLIC KEY-----`, with line breaks or
    /// with `\n` written out), a JWK (`{"kty":…}`), `base64:` and any of these or bytes, else a plain secret.
    ///
    /// ```
    /// assert_eq!(grip::Key::parse("changeme")?.algorithm(), "HS256");
    /// assert_eq!(grip::Key::parse("base64:AAECAwQFBgcICQ==")?.algorithm(), "HS256");
    /// let jwk = r#"{"kty":"EC","crv":"P-256","x":"CKo5A1ebyFcnmVV8SE5On-8G81JyBjSvcrx4VLetWCg",
    ///     "y":"7gwJqaU6N8TP88--twjkwoB36f-pT3QsmI46nPhjO7M"}"#;
    /// assert_eq!(grip::Key::parse(jwk)?.algorithm(), "ES256");
    /// # Ok::<_, grip::InvalidKey>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        let decoded = match text.strip_prefix("base64:") {
            Some(encoded) => &*STANDARD
                .decode(encoded.trim_end())
                .or_else(|_| URL_SAFE_NO_PAD.decode(encoded.trim_end()))
                .map_err(|_| InvalidKey::Base64)?,
            None => text.as_bytes(),
        };
        match std::str::from_utf8(decoded).map(str::trim_start) {
            Ok(text) if text.starts_with("-----BEGIN ") => Self::from_pem(text),
            Ok(text) if text.starts_with('{') => Self::from_jwk(text),
            _ => Self::from_secret(decoded),
        }
    }

    /// A secret that both sides know: HS256.
    pub fn from_secret(secret: &[u8]) -> Result<Self, InvalidKey> {
        if secret.is_empty() {
            return Err(InvalidKey::Empty);
        }
        Ok(Self(Kind::Hs256(hmac::Key::new(hmac::HMAC_SHA256, secret))))
    }

    /// A public key (`PUBLIC KEY`, or `RSA PUBLIC KEY`): ES256 or RS256.
    pub fn from_pem(pem: &str) -> Result<Self, InvalidKey> {
        let pem = pem.replace("\\n", "\n");
        let (label, document) = Document::from_pem(pem.trim()).map_err(|_| InvalidKey::Pem)?;
        match label {
            "PUBLIC KEY" => Self::from_spki(document.as_bytes()),
            "RSA PUBLIC KEY" => Ok(Self(Kind::Rs256Der(document.as_bytes().to_vec()))),
            label => Err(InvalidKey::PemLabel(label.to_owned())),
        }
    }

    fn from_spki(der: &[u8]) -> Result<Self, InvalidKey> {
        let info = spki::SubjectPublicKeyInfoRef::from_der(der).map_err(|_| InvalidKey::Pem)?;
        let key = info.subject_public_key.as_bytes().ok_or(InvalidKey::Pem)?.to_vec();
        match (info.algorithm.oid, info.algorithm.parameters_oid()) {
            (RSA, _) => Ok(Self(Kind::Rs256Der(key))),
            (EC, Ok(P256)) if key.len() == 65 => Ok(Self(Kind::Es256(key))),
            _ => Err(InvalidKey::Algorithm),
        }
    }

    /// A JSON web key (RFC 7517): `oct`, `EC` on P-256, or `RSA`.
    pub fn from_jwk(json: &str) -> Result<Self, InvalidKey> {
        let jwk: Jwk =
            serde_json::from_str(json).map_err(|_| InvalidKey::Jwk("it is not JSON with a kty"))?;
        let part = |part: Option<String>, missing| {
            let part = part.ok_or(InvalidKey::Jwk(missing))?;
            URL_SAFE_NO_PAD.decode(part).map_err(|_| InvalidKey::Jwk("a part of it is not base64url"))
        };
        let key = match (&*jwk.kty, jwk.crv.as_deref()) {
            ("oct", _) => Self::from_secret(&part(jwk.k, "k is missing")?)?,
            ("RSA", _) => {
                Self(Kind::Rs256 { n: part(jwk.n, "n is missing")?, e: part(jwk.e, "e is missing")? })
            }
            ("EC", Some("P-256")) => {
                let (x, y) = (part(jwk.x, "x is missing")?, part(jwk.y, "y is missing")?);
                if x.len() != 32 || y.len() != 32 {
                    return Err(InvalidKey::Jwk("a coordinate of P-256 has 32 bytes"));
                }
                Self(Kind::Es256([&[4], &x[..], &y[..]].concat()))
            }
            _ => return Err(InvalidKey::Jwk("kty and crv name no key that signs GRIP requests")),
        };
        match jwk.alg {
            Some(alg) if alg != key.algorithm() => {
                Err(InvalidKey::Jwk("alg is not the algorithm of this kind of key"))
            }
            _ => Ok(key),
        }
    }

    /// The JWT name of the one algorithm that goes with the key.
    pub fn algorithm(&self) -> &'static str {
        match self.0 {
            Kind::Hs256(_) => "HS256",
            Kind::Es256(_) => "ES256",
            Kind::Rs256 { .. } | Kind::Rs256Der(_) => "RS256",
        }
    }

    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.0 {
            Kind::Hs256(key) => hmac::verify(key, message, signature).is_ok(),
            Kind::Es256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature).is_ok()
            }
            Kind::Rs256 { n, e } => signature::RsaPublicKeyComponents { n, e }
                .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
                .is_ok(),
            Kind::Rs256Der(der) => {
                UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, der).verify(message, signature).is_ok()
            }
        }
    }

    /// The signature of a secret; public keys make none.
    #[cfg(any(test, feature = "publish"))]
    pub(crate) fn sign(&self, message: &[u8]) -> Option<hmac::Tag> {
        match &self.0 {
            Kind::Hs256(key) => Some(hmac::sign(key, message)),
            _ => None,
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.algorithm())
    }
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    alg: Option<String>,
    crv: Option<String>,
    k: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
}
