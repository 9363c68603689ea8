//! The content of a WebSocket closing handshake: a status code and a reason (RFC 6455, sections 5.5.1 and 7.4).

/// The longest close reason, in bytes: a control frame carries 125 bytes, and the code takes two of them
/// (RFC 6455, section 5.5).
pub const REASON_BYTES: usize = 123;

/// The content of a closing handshake: a status code and a reason, or nothing at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Close<'a> {
    /// The status code, or `None` if the peer sent no content.
    pub code: Option<u16>,
    /// The reason. It is empty whenever there is no code.
    pub reason: &'a str,
}

/// Why the content of a closing handshake is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidClose {
    /// RFC 6455 does not allow this code on the wire. It allows 1000 to 1003, 1007 to 1014, and 3000 to 4999.
    #[error("{0} is not a close code that may be sent; use 1000, or a code of your own from 4000 to 4999")]
    Code(u16),
    /// The content has one byte. A code takes two.
    #[error("the close content has 1 byte; a close code takes 2")]
    Length,
    /// The reason is not valid UTF-8.
    #[error("the close reason is not UTF-8")]
    NotUtf8,
    /// The reason is longer than [`REASON_BYTES`].
    #[error("the close reason has {0} bytes; at most {REASON_BYTES} fit into a control frame")]
    ReasonTooLong(usize),
}

impl InvalidClose {
    /// The close code to answer an invalid close with (RFC 6455, section 7.4.1): 1007 for a reason that is not
    /// UTF-8, and 1002 (protocol error) for everything else.
    pub fn answer(self) -> u16 {
        match self {
            Self::NotUtf8 => 1007,
            _ => 1002,
        }
    }
}

impl<'a> Close<'a> {
    /// A closing handshake with this code and reason. Fails if the code may not be sent or the reason is too long.
    pub fn new(code: u16, reason: &'a str) -> Result<Self, InvalidClose> {
        if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
            return Err(InvalidClose::Code(code));
        }
        if reason.len() > REASON_BYTES {
            return Err(InvalidClose::ReasonTooLong(reason.len()));
        }

        Ok(Self { code: Some(code), reason })
    }

    /// Reads the content of an [`Event::Close`](crate::Event::Close).
    ///
    /// ```
    /// let close = grip::Close::parse(b"\x0f\xa1bye")?;
    /// assert_eq!((close.code, close.reason), (Some(4001), "bye"));
    /// # Ok::<_, grip::InvalidClose>(())
    /// ```
    pub fn parse(content: &'a [u8]) -> Result<Self, InvalidClose> {
        match content {
            [] => Ok(Self { code: None, reason: "" }),
            [_] => Err(InvalidClose::Length),
            [high, low, reason @ ..] => {
                let code = Self::new(u16::from_be_bytes([*high, *low]), "")?.code;
                let reason = std::str::from_utf8(reason).map_err(|_| InvalidClose::NotUtf8)?;
                if reason.len() > REASON_BYTES {
                    return Err(InvalidClose::ReasonTooLong(reason.len()));
                }

                Ok(Self { code, reason })
            }
        }
    }

    /// The content as it goes into a close event: two bytes of code in network order, then the reason.
    pub fn content(&self) -> Vec<u8> {
        let code = self.code.map(u16::to_be_bytes);
        code.iter().flatten().chain(self.reason.as_bytes()).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_codes_that_may_be_sent_are_accepted() {
        let bad = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535];
        for code in bad {
            assert_eq!(Close::parse(&u16::to_be_bytes(code)), Err(InvalidClose::Code(code)));
            assert_eq!(Close::new(code, ""), Err(InvalidClose::Code(code)));
        }

        for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1014, 3000, 3999, 4000, 4999] {
            assert_eq!(Close::parse(&u16::to_be_bytes(code)).unwrap().code, Some(code));
        }
    }

    #[test]
    fn each_invalid_close_has_its_answer_code() {
        assert_eq!(Close::parse(b"\x03").unwrap_err().answer(), 1002);
        assert_eq!(Close::parse(b"\x00\x00").unwrap_err().answer(), 1002);
        assert_eq!(Close::parse(b"\x03\xe8\xff").unwrap_err().answer(), 1007);
        assert_eq!(Close::parse(&[b"\x03\xe8", &[b'x'; 124][..]].concat()).unwrap_err().answer(), 1002);
        assert!(Close::new(1000, &"x".repeat(123)).is_ok());
        assert_eq!(Close::new(1000, &"x".repeat(124)), Err(InvalidClose::ReasonTooLong(124)));
    }

    proptest! {
        #[test]
        fn parsing_reverses_content(code: u16, reason in ".{0,40}") {
            if let Ok(close) = Close::new(code, &reason) {
                let content = close.content();
                prop_assert_eq!(Close::parse(&content), Ok(close));
            }
        }

        #[test]
        fn content_reverses_parsing_byte_for_byte(content in proptest::collection::vec(any::<u8>(), 0..140)) {
            if let Ok(close) = Close::parse(&content) {
                prop_assert_eq!(close.content(), content);
            }
        }
    }
}
