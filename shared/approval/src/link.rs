//! The link: `PAGE?d=approve&e=1790000000&t=SEALED`, with the decision and the expiry readable.
//!
//! `SEALED` contains the task token and the question. It is encrypted with ChaCha20-Poly1305, and `d` and `e` are its
//! associated data, so a change of any character makes the link invalid. Nothing is stored: Step Functions accepts one
//! answer for each task, so that its reply shows whether a link was used.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use jiff::Timestamp;
use postern_types::TaskToken;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac::{self, HMAC_SHA256};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

/// A person's decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The task succeeds.
    Approve,
    /// The task fails with [`REJECTED`](crate::REJECTED).
    Reject,
}

impl Decision {
    fn word(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Reject => "reject",
        }
    }
}

/// The task of a link, and the question to the person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// The token of the task.
    pub token: TaskToken,
    /// The question.
    pub question: String,
    /// The tenant that the job belongs to. Links of earlier versions do not name one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

/// The reason for which a link is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLink {
    /// The link was changed, is incomplete, or was sealed with another key.
    #[error("the link was changed or is incomplete")]
    Forged,
    /// The link was valid until a time that has passed.
    #[error("the link has expired")]
    Expired,
}

/// The secret is too short, and so too easy to guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key must have at least {LEAST_KEY_BYTES} random bytes")]
pub struct KeyTooShort;

const LEAST_KEY_BYTES: usize = 32;

/// The key that seals and opens links.
pub struct Key(LessSafeKey);

impl Key {
    /// Derives the key from a secret of at least 32 bytes.
    pub fn new(secret: &[u8]) -> Result<Self, KeyTooShort> {
        if secret.len() < LEAST_KEY_BYTES {
            return Err(KeyTooShort);
        }

        let secret = hmac::Key::new(HMAC_SHA256, secret);
        let derived = hmac::sign(&secret, b"postern approval: seal");
        let key = UnboundKey::new(&CHACHA20_POLY1305, derived.as_ref()).map_err(|_| KeyTooShort)?;
        Ok(Self(LessSafeKey::new(key)))
    }

    /// The query of the link for `decision`.
    pub fn query(&self, ask: &Ask, decision: Decision, expires: Timestamp) -> String {
        let readable = format!("d={}&e={}", decision.word(), expires.as_second());
        let mut nonce = [0; NONCE_LEN];
        let mut sealed = serde_json::to_vec(ask).unwrap_or_default();

        // Both calls succeed on a running operating system with a text below 64 GiB. A link without a seal is invalid.
        let filled = SystemRandom::new().fill(&mut nonce);
        let unique = Nonce::assume_unique_for_key(nonce);
        let data = Aad::from(readable.as_bytes());
        if filled.and(self.0.seal_in_place_append_tag(unique, data, &mut sealed)).is_err() {
            sealed.clear();
        }

        format!("{readable}&t={}", BASE64.encode([&nonce[..], &sealed].concat()))
    }

    /// Opens a link's query. The seal is checked before the expiry.
    pub fn read(&self, query: &str, now: Timestamp) -> Result<(Decision, Ask), InvalidLink> {
        let (decision, expires, ask) = self.open(query).ok_or(InvalidLink::Forged)?;
        if expires <= now.as_second() {
            return Err(InvalidLink::Expired);
        }
        Ok((decision, ask))
    }

    fn open(&self, query: &str) -> Option<(Decision, i64, Ask)> {
        let (readable, sealed) = query.split_once("&t=")?;
        let (decision, expires) = readable.strip_prefix("d=")?.split_once("&e=")?;
        let decision = [Decision::Approve, Decision::Reject].into_iter().find(|it| it.word() == decision)?;

        let mut sealed = BASE64.decode(sealed).ok()?;
        let nonce = sealed.drain(..NONCE_LEN.min(sealed.len())).collect::<Vec<_>>();
        let nonce = Nonce::try_assume_unique_for_key(&nonce).ok()?;
        let ask = self.0.open_in_place(nonce, Aad::from(readable.as_bytes()), &mut sealed).ok()?;

        Some((decision, expires.parse().ok()?, serde_json::from_slice(ask).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(secret: &str) -> Key {
        Key::new(secret.repeat(LEAST_KEY_BYTES).as_bytes()).unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn ask(token: &str, question: &str) -> Ask {
        Ask { token: TaskToken::parse(token).unwrap(), question: question.into(), tenant: None }
    }

    #[test]
    fn a_link_expires() {
        let query = key("k").query(&ask("token", "?"), Decision::Approve, at(1_000));
        assert!(key("k").read(&query, at(999)).is_ok());
        assert_eq!(key("k").read(&query, at(1_000)).unwrap_err(), InvalidLink::Expired);
        let later = query.replace("e=1000", "e=9000");
        assert_eq!(key("k").read(&later, at(1_000)).unwrap_err(), InvalidLink::Forged);
    }

    #[test]
    fn a_link_with_another_key_or_decision_is_forged() {
        let query = key("k").query(&ask("token", "?"), Decision::Reject, at(1_000));
        assert_eq!(key("l").read(&query, at(0)).unwrap_err(), InvalidLink::Forged);
        let approve = query.replace("d=reject", "d=approve");
        assert_eq!(key("k").read(&approve, at(0)).unwrap_err(), InvalidLink::Forged);
        for query in ["", "d=approve", "d=approve&e=1&t=x", "&t=&t="] {
            assert_eq!(key("k").read(query, at(0)).unwrap_err(), InvalidLink::Forged, "{query}");
        }
    }

    #[test]
    fn two_links_for_one_question_differ() {
        let query = || key("k").query(&ask("token", "?"), Decision::Approve, at(1));
        assert_ne!(query(), query());
    }

    #[test]
    fn a_secret_needs_32_bytes() {
        assert!(Key::new(&[7; LEAST_KEY_BYTES - 1]).is_err());
        assert!(Key::new(&[7; LEAST_KEY_BYTES]).is_ok());
    }

    proptest! {
        #[test]
        fn a_link_gives_back_decision_token_and_question(
            token in "[!-~]{8,200}", question in ".{0,50}", approve: bool, expires in 1_i64..4_000_000_000,
        ) {
            let decision = if approve { Decision::Approve } else { Decision::Reject };
            let ask = ask(&token, &question);
            let query = key("k").query(&ask, decision, at(expires));
            prop_assert!(!query.contains(&token), "the token is in the clear");
            prop_assert!(query.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"=&-_".contains(&byte)));
            prop_assert_eq!(key("k").read(&query, at(expires - 1)), Ok((decision, ask)));
        }

        #[test]
        fn one_changed_character_is_a_forgery(place: prop::sample::Index, other in "[A-Za-z0-9_=&-]") {
            let query = key("k").query(&ask("some-token", "?"), Decision::Approve, at(1_000));
            let place = place.index(query.len());
            let mut changed = query.clone();
            changed.replace_range(place..=place, &other);
            prop_assume!(changed != query);
            prop_assert_eq!(key("k").read(&changed, at(0)), Err(InvalidLink::Forged));
        }

        #[test]
        fn no_query_makes_the_parser_panic(query in ".{0,200}") {
            prop_assert_eq!(key("k").read(&query, at(0)), Err(InvalidLink::Forged));
        }
    }
}
