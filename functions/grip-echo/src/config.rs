//! The function's configuration, read once at cold start.

use std::convert::Infallible;

use grip::channels::JwtAuthorizer;
use grip::{GripUrl, Key, Verifier};
use postern_runtime::env::{Environment, InvalidVariable};
use subtle::ConstantTimeEq as _;

/// The shortest publish token, in bytes. A shorter one can be guessed.
const TOKEN_BYTES: usize = 16;

/// The `aud` of channel tokens. It tells them apart from tokens that the same key signed for other purposes.
pub(crate) const AUDIENCE: &str = "grip-echo";

/// The function's configuration.
pub(crate) struct Config {
    /// `GRIP_URL`: the proxy's control endpoint and keys.
    pub(crate) url: GripUrl,
    /// `GRIP_PREFIX`: the prefix of every channel's name at the proxy.
    pub(crate) prefix: String,
    /// `GRIP_VERIFY_KEY` and `GRIP_VERIFY_ISS`, which default to those in `GRIP_URL`, and `GRIP_REQUIRE_SIGNATURE`,
    /// which defaults to true if there is a key.
    pub(crate) verifier: Verifier,
    /// `GRIP_PUBLISH_TOKEN`: the credential for `POST /publish` of a publisher that may always publish.
    pub(crate) publish_token: Option<PublishToken>,
    /// `GRIP_CHANNEL_KEY`: the key of tokens that name channels and what their bearers may do there. Without this and
    /// without `GRIP_PUBLISH_TOKEN`, every publish request is refused.
    pub(crate) authorizer: Option<JwtAuthorizer>,
}

impl Config {
    pub(crate) fn from_env(environment: &Environment<'_>) -> Result<Self, InvalidVariable> {
        let text = |text: &str| Ok::<_, Infallible>(text.to_owned());
        let url = environment.parse("GRIP_URL", "http://127.0.0.1:5561/", GripUrl::parse)?;
        let prefix = environment.parse_optional("GRIP_PREFIX", "myapp-", text)?.unwrap_or_default();
        let publish_token =
            environment.parse_optional("GRIP_PUBLISH_TOKEN", "cLr0mCjTgVf3ZkN2", PublishToken::parse)?;

        let key = environment.parse_optional("GRIP_VERIFY_KEY", "base64:c2VjcmV0", Key::parse)?;
        let key = key.or_else(|| url.verify_key().cloned());
        let issuer = environment.parse_optional("GRIP_VERIFY_ISS", "pushpin", text)?;
        let issuer = issuer.or_else(|| url.verify_issuer().map(str::to_owned));
        let required = environment.parse_optional("GRIP_REQUIRE_SIGNATURE", "true", str::parse)?;
        let required = required.unwrap_or(key.is_some());

        let authorizer = environment.parse_optional("GRIP_CHANNEL_KEY", "base64:c2VjcmV0", Key::parse)?;
        let authorizer = authorizer.map(|key| JwtAuthorizer::new(key).audience(AUDIENCE));

        let mut verifier = key.map_or_else(Verifier::default, Verifier::new);
        if let Some(issuer) = issuer {
            verifier = verifier.issuer(issuer);
        }
        if required {
            verifier = verifier.required();
        }
        Ok(Self { url, prefix, verifier, publish_token, authorizer })
    }
}

/// The bearer token that allows publishing. It has no `Debug`, so that it cannot reach a log.
pub(crate) struct PublishToken(String);

/// Why a text is not a publish token. The error does not contain the text.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidToken {
    #[error("the token has {0} bytes; use at least {TOKEN_BYTES} random ones")]
    TooShort(usize),
    #[error("the token contains a space or a character that an Authorization header cannot carry")]
    Character,
}

impl PublishToken {
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidToken> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(InvalidToken::Character);
        }
        if text.len() < TOKEN_BYTES {
            return Err(InvalidToken::TooShort(text.len()));
        }

        Ok(Self(text.to_owned()))
    }

    /// Whether a caller's token is this one. The time that the comparison takes shows nothing but the length.
    pub(crate) fn matches(&self, token: &str) -> bool {
        self.0.as_bytes().ct_eq(token.as_bytes()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_environment_is_reported_without_its_secrets() {
        for (name, value) in [
            ("GRIP_URL", "hidden"),
            ("GRIP_URL", "http://h/?verify-key=base64:hidden*"),
            ("GRIP_VERIFY_KEY", "base64:hidden*"),
            ("GRIP_REQUIRE_SIGNATURE", "hidden"),
            ("GRIP_PUBLISH_TOKEN", "hidden"),
            ("GRIP_PUBLISH_TOKEN", "hidden hidden hidden"),
            ("GRIP_CHANNEL_KEY", "base64:hidden*"),
        ] {
            let error =
                Config::from_env(&Environment::of(&[(name, value)])).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(name) && !error.contains("hidden"), "{error}");
        }
    }

    #[test]
    fn a_publish_token_has_at_least_16_printable_characters() {
        assert_eq!(PublishToken::parse(&"x".repeat(15)).map(|_| ()), Err(InvalidToken::TooShort(15)));
        assert_eq!(PublishToken::parse("0123456789abcdé0").map(|_| ()), Err(InvalidToken::Character));
        let token = PublishToken::parse("0123456789abcdef").map(|token| {
            ["0123456789abcdef", "0123456789abcdeg", "0123456789abcde", "0123456789abcdef0", ""]
                .map(|other| token.matches(other))
        });

        assert_eq!(token, Ok([true, false, false, false, false]));
    }
}
