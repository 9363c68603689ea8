//! The link: who asks what, sealed; the decision and the last moment, readable; all of it signed.
//!
//! `PAGE?d=approve&e=1790000000&t=SEALED&s=SIGNATURE`. The signature is HMAC-SHA-256 over the rest. The task
//! token, which is as good as the decision itself, is in the sealed part (ChaCha20-Poly1305), so nothing need
//! be stored: whether a link was used is what Step Functions says of its task, which is answered once.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use jiff::Timestamp;
use postern_types::TaskToken;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac::{self, HMAC_SHA256};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

/// What a person decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    Approve,
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

/// What a link is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ask {
    pub(crate) token: TaskToken,
    pub(crate) question: String,
}

/// Why a link is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidLink {
    #[error("its signature is wrong")]
    Forged,
    #[error("it has expired")]
    Expired,
}

/// A secret that is too easy to guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it must have at least {LEAST_KEY_BYTES} random bytes")]
pub(crate) struct KeyTooShort;

const LEAST_KEY_BYTES: usize = 32;

/// Signs and seals. One secret, a key for each purpose.
pub(crate) struct Key {
    sign: hmac::Key,
    seal: LessSafeKey,
}

impl Key {
    pub(crate) fn new(secret: &[u8]) -> Result<Self, KeyTooShort> {
        if secret.len() < LEAST_KEY_BYTES {
            return Err(KeyTooShort);
        }
        let secret = hmac::Key::new(HMAC_SHA256, secret);
        let purpose = |purpose: &str| hmac::sign(&secret, purpose.as_bytes());
        let seal = UnboundKey::new(&CHACHA20_POLY1305, purpose("postern approval: seal").as_ref());
        Ok(Self {
            sign: hmac::Key::new(HMAC_SHA256, purpose("postern approval: sign").as_ref()),
            seal: LessSafeKey::new(seal.map_err(|_| KeyTooShort)?),
        })
    }

    /// The link's query.
    pub(crate) fn query(&self, ask: &Ask, decision: Decision, expires: Timestamp) -> String {
        let mut nonce = [0; NONCE_LEN];
        let mut sealed = serde_json::to_vec(ask).unwrap_or_default();
        // Neither fails where there is an operating system, and a text that is far below 64 GiB.
        let filled = SystemRandom::new().fill(&mut nonce);
        let unique = Nonce::assume_unique_for_key(nonce);
        if filled.and(self.seal.seal_in_place_append_tag(unique, Aad::empty(), &mut sealed)).is_err() {
            sealed.clear();
        }
        let sealed = BASE64.encode([&nonce[..], &sealed].concat());
        let signed = format!("d={}&e={}&t={sealed}", decision.word(), expires.as_second());
        let signature = BASE64.encode(hmac::sign(&self.sign, signed.as_bytes()));
        format!("{signed}&s={signature}")
    }

    /// What a link's query says, if it is one of ours and not too late. The signature is looked at first.
    pub(crate) fn read(&self, query: &str, now: Timestamp) -> Result<(Decision, Ask), InvalidLink> {
        self.opened(query, now).unwrap_or(Err(InvalidLink::Forged))
    }

    /// `None` for what cannot be read, which is as good as forged.
    fn opened(&self, query: &str, now: Timestamp) -> Option<Result<(Decision, Ask), InvalidLink>> {
        let (signed, signature) = query.rsplit_once("&s=")?;
        hmac::verify(&self.sign, signed.as_bytes(), &BASE64.decode(signature).ok()?).ok()?;
        let (decision, rest) = signed.strip_prefix("d=")?.split_once("&e=")?;
        let (expires, sealed) = rest.split_once("&t=")?;
        let decision = [Decision::Approve, Decision::Reject].into_iter().find(|it| it.word() == decision)?;
        if expires.parse::<i64>().ok()? <= now.as_second() {
            return Some(Err(InvalidLink::Expired));
        }
        let mut sealed = BASE64.decode(sealed).ok()?;
        let nonce = sealed.drain(..NONCE_LEN.min(sealed.len())).collect::<Vec<_>>();
        let nonce = Nonce::try_assume_unique_for_key(&nonce).ok()?;
        let ask = self.seal.open_in_place(nonce, Aad::empty(), &mut sealed).ok()?;
        Some(Ok((decision, serde_json::from_slice(ask).ok()?)))
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
        Ask { token: TaskToken::parse(token).unwrap(), question: question.into() }
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
    fn a_link_of_another_key_or_for_the_other_decision_is_forged() {
        let query = key("k").query(&ask("token", "?"), Decision::Reject, at(1_000));
        assert_eq!(key("l").read(&query, at(0)).unwrap_err(), InvalidLink::Forged);
        let approve = query.replace("d=reject", "d=approve");
        assert_eq!(key("k").read(&approve, at(0)).unwrap_err(), InvalidLink::Forged);
        for query in ["", "d=approve", "d=approve&e=1&t=x&s=", "&s=&s="] {
            assert_eq!(key("k").read(query, at(0)).unwrap_err(), InvalidLink::Forged, "{query}");
        }
    }

    #[test]
    fn the_same_ask_looks_different_every_time() {
        let query = || key("k").query(&ask("token", "?"), Decision::Approve, at(1));
        assert_ne!(query(), query());
    }

    #[test]
    fn a_short_secret_is_none() {
        assert!(Key::new(&[7; LEAST_KEY_BYTES - 1]).is_err());
        assert!(Key::new(&[7; LEAST_KEY_BYTES]).is_ok());
    }

    proptest! {
        #[test]
        fn what_was_asked_is_read_again(
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
        fn no_query_makes_it_panic(query in ".{0,200}") {
            prop_assert_eq!(key("k").read(&query, at(0)), Err(InvalidLink::Forged));
        }
    }
}
