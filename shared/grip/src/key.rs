//! Keys that verify the proxy's signatures. A key is read from a shared secret, a PEM or a JWK.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use ring::{hmac, signature};
use serde::Deserialize;
use spki::der::{Decode as _, Document, asn1::ObjectIdentifier};

/// A key that verifies signatures.
///
/// The key determines the algorithm: a token that names another algorithm is refused. `Debug` prints only the
/// algorithm.
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
    /// The DER encoding of an `RSAPublicKey` (PKCS #1).
    Rs256Der(Vec<u8>),
}

/// Why a text is not a key. The error does not contain the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// The text is empty. With an empty secret, everyone could sign requests.
    #[error("the key is empty")]
    Empty,
    /// The text after `base64:` is neither base64 nor base64url.
    #[error("the text after base64: is not valid base64")]
    Base64,
    /// The content between the lines of a PEM cannot be decoded.
    #[error("the PEM's content cannot be decoded; copy it whole, from -----BEGIN to the last dash")]
    Pem,
    /// The PEM holds something other than a public key, such as a private key or a certificate.
    #[error("a PEM of {0:?} is not a public key; use the one labelled \"PUBLIC KEY\"")]
    PemLabel(String),
    /// The public key is neither RSA nor EC on the curve P-256.
    #[error("the public key must be RSA, or EC on P-256: GRIP proxies sign with these only")]
    Algorithm,
    /// The JWK lacks a member, or a member has an unusable value. The field says which.
    #[error("the JWK cannot be used: {0}")]
    Jwk(&'static str),
}

const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

impl Key {
    /// Reads a key from a configuration value. The forms are tried in this order:
    ///
    /// 1. `base64:` and the base64 of one of the following, or of the bytes of a secret;
    /// 2. a PEM, `-----BEGIN PUBLIC KEY-----…`, with line breaks or with `\n` written out;
    /// 3. a JWK, `{"kty":…}`;
    /// 4. a secret, verbatim.
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

    /// A secret that the proxy and the function share (HS256).
    pub fn from_secret(secret: &[u8]) -> Result<Self, InvalidKey> {
        if secret.is_empty() {
            return Err(InvalidKey::Empty);
        }

        Ok(Self(Kind::Hs256(hmac::Key::new(hmac::HMAC_SHA256, secret))))
    }

    /// A public key in PEM, labelled `PUBLIC KEY` or `RSA PUBLIC KEY` (ES256 or RS256).
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

    /// A JSON web key (RFC 7517) of type `oct`, `EC` on P-256, or `RSA`.
    pub fn from_jwk(json: &str) -> Result<Self, InvalidKey> {
        let jwk: Jwk = serde_json::from_str(json)
            .map_err(|_| InvalidKey::Jwk("it is not a JSON object with the member kty"))?;

        let key = match (&*jwk.kty, jwk.crv.as_deref()) {
            ("oct", _) => Self::from_secret(&member(jwk.k, "k is missing")?)?,
            ("RSA", _) => {
                Self(Kind::Rs256 { n: member(jwk.n, "n is missing")?, e: member(jwk.e, "e is missing")? })
            }
            ("EC", Some("P-256")) => {
                let (x, y) = (member(jwk.x, "x is missing")?, member(jwk.y, "y is missing")?);
                if x.len() != 32 || y.len() != 32 {
                    return Err(InvalidKey::Jwk("a coordinate of P-256 has 32 bytes"));
                }
                // An uncompressed point (SEC 1, section 2.3.3).
                Self(Kind::Es256([&[4], &x[..], &y[..]].concat()))
            }
            _ => return Err(InvalidKey::Jwk("kty must be oct or RSA, or EC with crv P-256")),
        };

        match jwk.alg {
            Some(alg) if alg != key.algorithm() => {
                Err(InvalidKey::Jwk("alg must be the algorithm of the key: HS256, RS256 or ES256"))
            }
            _ => Ok(key),
        }
    }

    /// The name of the key's algorithm in a JSON web token: `HS256`, `ES256` or `RS256`.
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

    /// Signs a message. Returns `None` if the key is a public key.
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

/// Decodes a member of a JWK that holds base64url.
fn member(value: Option<String>, missing: &'static str) -> Result<Vec<u8>, InvalidKey> {
    let value = value.ok_or(InvalidKey::Jwk(missing))?;
    URL_SAFE_NO_PAD.decode(value).map_err(|_| InvalidKey::Jwk("a member is not base64url"))
}
