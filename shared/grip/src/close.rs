//! What a closing handshake says.

/// Longest reason, in bytes: a control frame holds 125, two of them are the code (RFC 6455, 5.5).
pub const REASON_BYTES: usize = 123;

/// The content of a closing handshake: a code and a reason, or nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Close<'a> {
    /// The code, unless the peer gave none.
    pub code: Option<u16>,
    /// The reason; empty unless there is a code.
    pub reason: &'a str,
}

/// Why a closing handshake is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidClose {
    /// Codes that may be sent are 1000 to 1003, 1007 to 1014, and 3000 to 4999.
    #[error("{0} is not a close code that may be sent; use 1000, or one of your own from 4000 to 4999")]
    Code(u16),
    /// One byte is no code.
    #[error("a close of one byte has no code")]
    Length,
    /// A reason is text.
    #[error("the close reason is not UTF-8")]
    NotUtf8,
    /// A control frame has room for no more.
    #[error("the close reason has {0} bytes; at most {REASON_BYTES} fit")]
    ReasonTooLong(usize),
}

impl InvalidClose {
    /// The code that answers it (RFC 6455, 7.4.1): 1007 for text that is not UTF-8, else 1002, protocol error.
    pub fn answer(self) -> u16 {
        match self {
            Self::NotUtf8 => 1007,
            _ => 1002,
        }
    }
}

impl<'a> Close<'a> {
    /// A code that may be sent, and a reason that fits.
    pub fn new(code: u16, reason: &'a str) -> Result<Self, InvalidClose> {
        if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
            return Err(InvalidClose::Code(code));
        }
        match reason.len() {
            bytes if bytes > REASON_BYTES => Err(InvalidClose::ReasonTooLong(bytes)),
            _ => Ok(Self { code: Some(code), reason }),
        }
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
                let close = Self::new(u16::from_be_bytes([*high, *low]), "")?;
                let reason = std::str::from_utf8(reason).map_err(|_| InvalidClose::NotUtf8)?;
                match reason.len() {
                    bytes if bytes > REASON_BYTES => Err(InvalidClose::ReasonTooLong(bytes)),
                    _ => Ok(Self { reason, ..close }),
                }
            }
        }
    }

    /// The content of the event that says it.
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
    fn only_codes_that_may_be_sent_are_codes() {
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
    fn a_close_says_how_it_is_answered() {
        assert_eq!(Close::parse(b"\x03").unwrap_err().answer(), 1002);
        assert_eq!(Close::parse(b"\x00\x00").unwrap_err().answer(), 1002);
        assert_eq!(Close::parse(b"\x03\xe8\xff").unwrap_err().answer(), 1007);
        assert_eq!(Close::parse(&[b"\x03\xe8", &[b'x'; 124][..]].concat()).unwrap_err().answer(), 1002);
        assert!(Close::new(1000, &"x".repeat(123)).is_ok());
        assert_eq!(Close::new(1000, &"x".repeat(124)), Err(InvalidClose::ReasonTooLong(124)));
    }

    proptest! {
        #[test]
        fn what_can_be_said_is_understood(code: u16, reason in ".{0,40}") {
            if let Ok(close) = Close::new(code, &reason) {
                let content = close.content();
                prop_assert_eq!(Close::parse(&content), Ok(close));
            }
        }

        #[test]
        fn what_is_understood_is_echoed_byte_by_byte(content in proptest::collection::vec(any::<u8>(), 0..140)) {
            if let Ok(close) = Close::parse(&content) {
                prop_assert_eq!(close.content(), content);
            }
        }
    }
}
