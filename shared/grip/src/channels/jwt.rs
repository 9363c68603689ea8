//! Authorization by JSON web tokens, which an application's own server issues to its clients.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::json;

use super::access::{Action, ChannelAuthorizer, Denied, Grant, Identity};
use crate::key::Key;
use crate::token::{self, TokenProblem};

/// Reads the rights of a client from a signed token.
///
/// The claim `channels` lists grants. `exp` is required; `sub` names the client, and `jti` the token.
///
/// ```json
/// {"sub": "ann", "jti": "7", "exp": 1900000000, "iss": "shop",
///  "channels": [{"match": "room.*", "do": ["subscribe", "publish", "presence"]}]}
/// ```
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use grip::Key;
/// use grip::channels::{Action, ChannelAuthorizer as _, Grant, Identity, JwtAuthorizer};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let jwt = JwtAuthorizer::new(Key::parse("changeme")?).issuer("shop");
/// let ann = Identity {
///     subject: Some("ann".to_owned()),
///     grants: vec![Grant::new("room.*", [Action::Subscribe])],
///     ..Identity::default()
/// };
/// let token = jwt.issue(&ann, Duration::from_secs(60)).expect("the key is a secret");
///
/// let client = jwt.identify(Some(&token), SystemTime::now()).await?;
/// assert!(jwt.permits(&client, Action::Subscribe, "room.7"));
/// assert!(!jwt.permits(&client, Action::Publish, "room.7"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct JwtAuthorizer {
    key: Key,
    issuer: Option<String>,
    audience: Option<String>,
}

#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    jti: Option<String>,
    iss: Option<String>,
    aud: Option<Audience>,
    exp: Option<f64>,
    #[serde(default)]
    channels: Vec<GrantClaim>,
}

#[derive(Deserialize)]
struct GrantClaim {
    r#match: String,
    r#do: Vec<String>,
}

/// RFC 7519 allows one audience or a list.
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl JwtAuthorizer {
    /// Trusts tokens that this key signed: a secret, or the public half of a key pair.
    pub fn new(key: Key) -> Self {
        Self { key, issuer: None, audience: None }
    }

    /// Trusts only tokens with this `iss`.
    #[must_use]
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// Trusts only tokens with this `aud`. Set it if the key signs tokens for other purposes as well.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = Some(audience.into());
        self
    }

    /// A token for a client that ends after `life`. Returns `None` if the key is a public key, which cannot sign.
    pub fn issue(&self, identity: &Identity, life: Duration) -> Option<String> {
        let end = SystemTime::now() + life;
        let grants: Vec<_> = identity.grants.iter().map(Grant::claim).collect();
        let mut claims = json!({
            "exp": end.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            "channels": grants,
        });

        let texts = [
            ("sub", &identity.subject),
            ("jti", &identity.token_id),
            ("iss", &self.issuer),
            ("aud", &self.audience),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                claims[name] = json!(text);
            }
        }
        token::sign(&self.key, &claims)
    }

    fn read(&self, token: &str, now: SystemTime) -> Result<Identity, Denied> {
        let claims: Claims = token::verified(&self.key, token.as_bytes(), now)?;
        if self.issuer.is_some() && claims.iss != self.issuer {
            return Err(Denied::Invalid);
        }
        if let Some(audience) = &self.audience {
            match claims.aud {
                Some(Audience::One(one)) if one == *audience => {}
                Some(Audience::Several(several)) if several.contains(audience) => {}
                _ => return Err(Denied::Invalid),
            }
        }

        let expires = claims.exp.and_then(|end| Duration::try_from_secs_f64(end).ok());
        Ok(Identity {
            subject: claims.sub,
            token_id: claims.jti,
            expires: expires.and_then(|end| UNIX_EPOCH.checked_add(end)),
            grants: claims.channels.into_iter().map(GrantClaim::grant).collect(),
        })
    }
}

impl GrantClaim {
    /// Actions that this version does not know are left out: they allow nothing.
    fn grant(self) -> Grant {
        let known = [Action::Subscribe, Action::Publish, Action::Presence];
        let actions = known.into_iter().filter(|action| self.r#do.iter().any(|name| name == action.name()));
        Grant::new(self.r#match, actions)
    }
}

impl From<TokenProblem> for Denied {
    fn from(problem: TokenProblem) -> Self {
        match problem {
            TokenProblem::Expired => Self::Expired,
            TokenProblem::Malformed
            | TokenProblem::Algorithm
            | TokenProblem::Signature
            | TokenProblem::NotYet => Self::Invalid,
        }
    }
}

impl ChannelAuthorizer for JwtAuthorizer {
    async fn identify(&self, credential: Option<&str>, now: SystemTime) -> Result<Identity, Denied> {
        self.read(credential.ok_or(Denied::Missing)?, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn read(authorizer: &JwtAuthorizer, claims: &serde_json::Value) -> Result<Identity, Denied> {
        let token = token::sign(&authorizer.key, claims).unwrap();
        authorizer.read(&token, UNIX_EPOCH + Duration::from_secs(NOW))
    }

    fn authorizer() -> JwtAuthorizer {
        JwtAuthorizer::new(Key::parse("changeme").unwrap()).issuer("shop").audience("chat")
    }

    #[test]
    fn a_token_describes_its_client() {
        let claims = json!({
            "sub": "ann", "jti": "7", "iss": "shop", "aud": ["web", "chat"], "exp": NOW + 1,
            "channels": [{"match": "room.*", "do": ["subscribe", "fly"]}],
        });
        let ann = read(&authorizer(), &claims).unwrap();

        assert_eq!(ann.revocation_ids(), ["token:7", "subject:ann"]);
        assert_eq!(ann.expires, Some(UNIX_EPOCH + Duration::from_secs(NOW + 1)));
        assert_eq!(ann.grants, [Grant::new("room.*", [Action::Subscribe])]);
    }

    #[test]
    fn a_token_for_somebody_else_or_some_other_time_is_refused() {
        let base = json!({ "iss": "shop", "aud": "chat", "exp": NOW + 1 });
        assert!(read(&authorizer(), &base).is_ok());
        for (name, value, expected) in [
            ("iss", json!("other"), Denied::Invalid),
            ("iss", json!(null), Denied::Invalid),
            ("aud", json!("other"), Denied::Invalid),
            ("aud", json!(null), Denied::Invalid),
            ("exp", json!(NOW), Denied::Expired),
            ("exp", json!(null), Denied::Expired),
            ("nbf", json!(NOW + 1), Denied::Invalid),
            ("channels", json!("all"), Denied::Invalid),
        ] {
            let mut claims = base.clone();
            claims[name] = value;
            assert_eq!(read(&authorizer(), &claims), Err(expected), "{claims}");
        }

        let other = JwtAuthorizer::new(Key::parse("other").unwrap());
        let token = token::sign(&other.key, &base).unwrap();
        assert_eq!(authorizer().read(&token, SystemTime::UNIX_EPOCH), Err(Denied::Invalid));
    }
}
