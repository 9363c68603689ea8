//! `GRIP_URL`: the address and the keys of a proxy in one variable.

use std::fmt;

use http::Uri;
use percent_encoding::percent_decode_str;

use crate::key::{InvalidKey, Key};

/// How requests to the control endpoint are authenticated. `Debug` prints no secrets.
#[derive(Clone)]
pub enum Auth {
    /// Without authentication: a Pushpin whose control port only trusted machines can reach.
    None,
    /// A fixed bearer token, such as a Fastly API token.
    Bearer(String),
    /// A short-lived JSON web token for each request, signed with a shared secret.
    Jwt {
        /// The token's issuer, `iss`.
        issuer: String,
        /// The secret that signs the token.
        key: Key,
    },
    /// A user name and a password.
    Basic {
        /// The user name.
        user: String,
        /// The password.
        password: String,
    },
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "Auth::None",
            Self::Bearer(_) => "Auth::Bearer",
            Self::Jwt { .. } => "Auth::Jwt",
            Self::Basic { .. } => "Auth::Basic",
        })
    }
}

/// A proxy: the address of its control endpoint, how to authenticate there, and how to verify its signatures.
///
/// The form is `http://127.0.0.1:5561/?iss=pushpin&key=base64:…&verify-iss=pushpin&verify-key=…`. These four
/// parameters are removed from the address; other parameters stay in it.
///
/// - `key` and `iss`: each publication carries a JSON web token of this issuer, signed with the key.
/// - `key` alone: the key itself is the bearer token.
/// - `user:password@` before the host, without `key`: basic authentication.
///
/// Values are percent-decoded, and a `+` stays a `+`, because base64 uses it.
///
/// ```
/// let url = grip::GripUrl::parse("https://api.fastly.com/service/abc?key=token&verify-iss=fastly:abc")?;
/// assert_eq!(url.control(), "https://api.fastly.com/service/abc");
/// assert_eq!(url.verify_issuer(), Some("fastly:abc"));
/// # Ok::<_, grip::InvalidUrl>(())
/// ```
#[derive(Debug, Clone)]
pub struct GripUrl {
    control: String,
    auth: Auth,
    verify_issuer: Option<String>,
    verify_key: Option<Key>,
}

/// Why a text is not a `GRIP_URL`. The error does not contain the text, which may hold keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    /// The text is not an absolute `http` or `https` URL with a host.
    #[error("the URL does not start with http:// or https:// and a host")]
    Url,
    /// A parameter, the user or the password has a broken `%` sequence, or is not UTF-8.
    #[error("{0} in the URL is not percent-encoded UTF-8")]
    Encoding(&'static str),
    /// A parameter does not hold a key.
    #[error("{0} in the URL: {1}")]
    Key(&'static str, InvalidKey),
    /// `key` is a public key. Only a secret can sign publications.
    #[error("key in the URL is a public key; publications are signed with a secret")]
    PublicKey,
}

impl GripUrl {
    /// Reads the value of `GRIP_URL`.
    pub fn parse(text: &str) -> Result<Self, InvalidUrl> {
        let (address, query) = text.split_once('?').unwrap_or((text, ""));
        let (base, user_info) = split_address(address)?;
        let parameters = Parameters::parse(query)?;

        let mut control = base;
        if !parameters.others.is_empty() {
            control = format!("{control}?{}", parameters.others.join("&"));
            control.parse::<Uri>().map_err(|_| InvalidUrl::Url)?;
        }

        let verify_key = parameters.verify_key.as_deref().map(Key::parse).transpose();
        Ok(Self {
            control,
            auth: auth(parameters.issuer, parameters.key, &user_info)?,
            verify_issuer: parameters.verify_issuer,
            verify_key: verify_key.map_err(|error| InvalidUrl::Key("verify-key", error))?,
        })
    }

    /// The address of the control endpoint, without a final slash and without the parameters of this type.
    pub fn control(&self) -> &str {
        &self.control
    }

    /// How to authenticate at the control endpoint.
    pub fn auth(&self) -> &Auth {
        &self.auth
    }

    /// The issuer whose signatures are trusted: `verify-iss`.
    pub fn verify_issuer(&self) -> Option<&str> {
        self.verify_issuer.as_deref()
    }

    /// The key that verifies the proxy's signatures: `verify-key`.
    pub fn verify_key(&self) -> Option<&Key> {
        self.verify_key.as_ref()
    }
}

/// Splits an address into scheme, host and path, without a final slash, and the user information.
fn split_address(address: &str) -> Result<(String, String), InvalidUrl> {
    let uri: Uri = address.parse().map_err(|_| InvalidUrl::Url)?;
    let (Some(scheme @ ("http" | "https")), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(InvalidUrl::Url);
    };
    let authority = authority.as_str();
    if uri.host().is_none_or(str::is_empty) || authority.ends_with(':') || address.contains('#') {
        return Err(InvalidUrl::Url);
    }

    let (user_info, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let base = format!("{scheme}://{host}{}", uri.path().trim_end_matches('/'));
    Ok((base, user_info.to_owned()))
}

/// The parameters of a `GRIP_URL`: the four that this type defines, and the others as they were written.
#[derive(Default)]
struct Parameters<'a> {
    issuer: Option<String>,
    key: Option<String>,
    verify_issuer: Option<String>,
    verify_key: Option<String>,
    others: Vec<&'a str>,
}

impl<'a> Parameters<'a> {
    fn parse(query: &'a str) -> Result<Self, InvalidUrl> {
        let mut parameters = Self::default();

        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            match name {
                "iss" => parameters.issuer = Some(decode(value, "iss")?),
                "key" => parameters.key = Some(decode(value, "key")?),
                "verify-iss" => parameters.verify_issuer = Some(decode(value, "verify-iss")?),
                "verify-key" => parameters.verify_key = Some(decode(value, "verify-key")?),
                _ => parameters.others.push(parameter),
            }
        }
        Ok(parameters)
    }
}

fn auth(issuer: Option<String>, key: Option<String>, user_info: &str) -> Result<Auth, InvalidUrl> {
    match (issuer, key) {
        (Some(issuer), Some(key)) => {
            let key = Key::parse(&key).map_err(|error| InvalidUrl::Key("key", error))?;
            match key.algorithm() {
                "HS256" => Ok(Auth::Jwt { issuer, key }),
                _ => Err(InvalidUrl::PublicKey),
            }
        }
        (None, Some(key)) if key.is_empty() => Err(InvalidUrl::Key("key", InvalidKey::Empty)),
        (None, Some(key)) => Ok(Auth::Bearer(key)),
        (_, None) if user_info.is_empty() => Ok(Auth::None),
        (_, None) => {
            let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
            Ok(Auth::Basic { user: decode(user, "the user")?, password: decode(password, "the password")? })
        }
    }
}

/// Decodes percent sequences, and nothing else: a `+` stays a `+`, because base64 uses it.
fn decode(value: &str, what: &'static str) -> Result<String, InvalidUrl> {
    let broken = value.split('%').skip(1).any(|rest| {
        let digits = rest.as_bytes().get(..2);
        !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    let decoded = percent_decode_str(value).decode_utf8().ok().filter(|_| !broken);
    decoded.map(std::borrow::Cow::into_owned).ok_or(InvalidUrl::Encoding(what))
}

#[cfg(test)]
mod tests;
