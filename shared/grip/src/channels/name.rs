//! The names of channels.

use ring::digest::{SHA256, digest};

/// The longest name of a channel, in bytes.
pub const NAME_BYTES: usize = 128;

/// Why a text cannot name a channel. The error does not contain the text, which a client chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// The name is empty.
    #[error("the channel's name is empty")]
    Empty,
    /// The name is longer than [`NAME_BYTES`]. The field holds its length.
    #[error("the channel's name has {0} bytes; at most {NAME_BYTES} are allowed")]
    TooLong(usize),
    /// The name contains something other than ASCII letters, digits and `.-_:@`.
    #[error("the channel's name contains a character other than ASCII letters, digits and . - _ : @")]
    Character,
}

/// Checks a channel's name. A name that passes can stand in a header, a path and a list with commas.
pub(crate) fn check(name: &str) -> Result<(), InvalidName> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:@".contains(&byte);
    match name.len() {
        0 => Err(InvalidName::Empty),
        bytes if bytes > NAME_BYTES => Err(InvalidName::TooLong(bytes)),
        _ if name.bytes().all(allowed) => Ok(()),
        _ => Err(InvalidName::Character),
    }
}

/// The channel that proves to one connection that its subscriptions are active. No client can name it.
pub(crate) fn marker(connection: &str, round: u64) -> String {
    format!("~live.{}.{round}", short_hash(connection))
}

/// The channel that closes the connections of one token or one subject, which `id` names.
pub(crate) fn revocation(id: &str) -> String {
    format!("~revoked.{}", short_hash(id))
}

/// 32 hexadecimal digits that stand for a text of any length and any characters.
pub(crate) fn short_hash(text: &str) -> String {
    let hash = digest(&SHA256, text.as_bytes());
    hex(&hash.as_ref()[..16])
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_has_no_character_that_a_header_or_a_path_reserves() {
        for name in ["room", "room.7", "user:ann@example.com", &"x".repeat(NAME_BYTES)] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
        for name in ["a b", "a,b", "a;b", "a/b", "~live.1", "Zoë", "a*", "a\"b", "a\r\nb"] {
            assert_eq!(check(name), Err(InvalidName::Character), "{name}");
        }
        assert_eq!(check(""), Err(InvalidName::Empty));
        assert_eq!(check(&"x".repeat(10_000)), Err(InvalidName::TooLong(10_000)));
    }

    #[test]
    fn a_client_cannot_name_an_internal_channel() {
        assert!(check(&marker("1", 1)).is_err() && check(&revocation("a")).is_err());
        assert_ne!(marker("1", 11), marker("11", 1));
    }
}
