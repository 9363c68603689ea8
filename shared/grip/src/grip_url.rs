//! `GRIP_URL`: everything about a proxy in one variable.

use std::fmt;

use http::Uri;
use percent_encoding::percent_decode_str;

use crate::key::{InvalidKey, Key};

/// How publishing is authenticated. Nothing secret in it is printed.
#[derive(Clone)]
pub enum Auth {
    /// Not at all: a Pushpin that only listens where one may publish.
    None,
    /// A token as it is: a Fastly API token.
    Bearer(String),
    /// A short-lived token of a secret, by its issuer.
    Jwt {
        /// Who makes it: `iss`.
        issuer: String,
        /// The secret it is made with.
        key: Key,
    },
    /// A user's name and password.
    Basic {
        /// The name.
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

/// A proxy: where its control endpoint is, how to authenticate there, and how its requests are verified.
///
/// `http://127.0.0.1:5561/?iss=pushpin&key=base64:…&verify-iss=pushpin&verify-key=…`: the parameters of these
/// four names are taken out, the others stay in the address. With `key` and `iss` publications carry a token
/// made with the key; with `key` alone, the key itself as a token; with `user:password@` before the host, those.
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

/// Why a text is not a `GRIP_URL`. Nothing of the text is in it: it may hold keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    /// Not `http://host…` or `https://host…`.
    #[error("the URL is not http:// or https:// and a host")]
    Url,
    /// A parameter or a password with a broken `%` sequence, or one that is not UTF-8.
    #[error("{0} in the URL is not percent-encoded UTF-8")]
    Encoding(&'static str),
    /// A key that is none.
    #[error("{0} in the URL: {1}")]
    Key(&'static str, InvalidKey),
    /// A public key, which cannot sign publications.
    #[error("key in the URL is a public key; publications are signed with a secret")]
    PublicKey,
}

impl GripUrl {
    /// Reads the variable's value.
    pub fn parse(text: &str) -> Result<Self, InvalidUrl> {
        let (address, query) = text.split_once('?').unwrap_or((text, ""));
        let uri: Uri = address.parse().map_err(|_| InvalidUrl::Url)?;
        let (Some(scheme @ ("http" | "https")), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(InvalidUrl::Url);
        };
        let (user_info, host) = authority.as_str().rsplit_once('@').unwrap_or(("", authority.as_str()));
        if uri.host().is_none_or(str::is_empty) || authority.as_str().ends_with(':') || address.contains('#')
        {
            return Err(InvalidUrl::Url);
        }
        let mut given = Given::default();
        let mut kept = Vec::new();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            match name {
                "iss" => given.issuer = Some(decode(value, "iss")?),
                "key" => given.key = Some(decode(value, "key")?),
                "verify-iss" => given.verify_issuer = Some(decode(value, "verify-iss")?),
                "verify-key" => given.verify_key = Some(decode(value, "verify-key")?),
                _ => kept.push(parameter),
            }
        }
        let mut control = format!("{scheme}://{host}{}", uri.path().trim_end_matches('/'));
        if !kept.is_empty() {
            control = format!("{control}?{}", kept.join("&"));
            control.parse::<Uri>().map_err(|_| InvalidUrl::Url)?;
        }
        let verify_key = given.verify_key.as_deref().map(Key::parse).transpose();
        Ok(Self {
            control,
            auth: auth(given.issuer, given.key, user_info)?,
            verify_issuer: given.verify_issuer,
            verify_key: verify_key.map_err(|error| InvalidUrl::Key("verify-key", error))?,
        })
    }

    /// The control endpoint's address, without a slash at its end and without the parameters of this type.
    pub fn control(&self) -> &str {
        &self.control
    }

    /// How to authenticate there.
    pub fn auth(&self) -> &Auth {
        &self.auth
    }

    /// Whose signatures to trust.
    pub fn verify_issuer(&self) -> Option<&str> {
        self.verify_issuer.as_deref()
    }

    /// What to check them with.
    pub fn verify_key(&self) -> Option<&Key> {
        self.verify_key.as_ref()
    }
}

#[derive(Default)]
struct Given {
    issuer: Option<String>,
    key: Option<String>,
    verify_issuer: Option<String>,
    verify_key: Option<String>,
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

/// Percent sequences only: a `+` is a plus, which base64 needs.
fn decode(value: &str, what: &'static str) -> Result<String, InvalidUrl> {
    let broken = value.split('%').skip(1).any(|rest| {
        let digits = rest.as_bytes().get(..2);
        !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    let decoded = percent_decode_str(value).decode_utf8().ok().filter(|_| !broken);
    decoded.map(std::borrow::Cow::into_owned).ok_or(InvalidUrl::Encoding(what))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_address_keeps_what_is_not_ours() {
        for (text, control) in [
            ("http://localhost:5561", "http://localhost:5561"),
            ("http://localhost:5561/", "http://localhost:5561"),
            ("https://h/a/b/?iss=i&key=k&x=1&verify-key=v&y=a%2Bb+c", "https://h/a/b?x=1&y=a%2Bb+c"),
            ("http://user:pass@h:1/a", "http://h:1/a"),
            ("http://[::1]:5561/?key=k", "http://[::1]:5561"),
        ] {
            assert_eq!(GripUrl::parse(text).unwrap().control(), control);
        }
    }

    #[test]
    fn a_plus_in_a_key_stays_a_plus() {
        let url = GripUrl::parse("http://h/?key=a+b/c%3D").unwrap();
        assert!(matches!(url.auth(), Auth::Bearer(token) if token == "a+b/c="));
        let url =
            GripUrl::parse("http://h/?iss=i&key=base64:+/+/&verify-key=base64:+/+/&verify-iss=p").unwrap();
        assert!(matches!(url.auth(), Auth::Jwt { issuer, .. } if issuer == "i"));
        assert_eq!(url.verify_key().unwrap().algorithm(), "HS256");
        assert_eq!(url.verify_issuer(), Some("p"));
    }

    #[test]
    fn a_user_before_the_host_is_for_basic_authentication() {
        let url = GripUrl::parse("http://us%40er:pa:ss@h/").unwrap();
        assert!(
            matches!(url.auth(), Auth::Basic { user, password } if user == "us@er" && password == "pa:ss")
        );
        assert!(matches!(GripUrl::parse("http://h/?iss=i").unwrap().auth(), Auth::None));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_key() {
        let public = r#"{"kty":"EC","crv":"P-256","x":"CKo5A1ebyFcnmVV8SE5On-8G81JyBjSvcrx4VLetWCg","y":"7gwJqaU6N8TP88--twjkwoB36f-pT3QsmI46nPhjO7M"}"#;
        for (text, error) in [
            ("", InvalidUrl::Url),
            ("localhost:5561", InvalidUrl::Url),
            ("ftp://h/", InvalidUrl::Url),
            ("/publish", InvalidUrl::Url),
            ("http://h/?key=%zz", InvalidUrl::Encoding("key")),
            ("http://h/?key=%ff", InvalidUrl::Encoding("key")),
            ("http://h/?key=", InvalidUrl::Key("key", InvalidKey::Empty)),
            ("http://h/?iss=i&key=base64:*", InvalidUrl::Key("key", InvalidKey::Base64)),
            ("http://h/?verify-key=", InvalidUrl::Key("verify-key", InvalidKey::Empty)),
            (&format!("http://h/?iss=i&key={public}"), InvalidUrl::PublicKey),
        ] {
            assert_eq!(GripUrl::parse(text).unwrap_err(), error, "{text}");
        }
        let url = GripUrl::parse("http://me:hidden@h/?key=hidden&verify-key=hidden").unwrap();
        assert!(!format!("{url:?}").contains("hidden"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(https?://)?.{0,60}(\\?((iss|key|verify-key|x)=.{0,20}&?){0,4})?") {
            if let Ok(url) = GripUrl::parse(&text) {
                prop_assert!(url.control().starts_with("http"));
                prop_assert!(!url.control().contains('@') || text.contains('/'));
            }
        }
    }
}
