//! A place in a channel's history, and its text form.

use std::fmt;
use std::str::FromStr;

/// A place in the history of a channel: after which item a client stands.
///
/// The epoch names one history. When a history is lost, the next one has another epoch, so that an offset of the old one
/// is never taken for an offset of the new one. The text form is `EPOCH-OFFSET`, and `0` for the start of a channel
/// in which nothing has been published.
///
/// ```
/// use grip::channels::Position;
///
/// let position: Position = "5f3a9c1d20b7e684-12".parse()?;
/// assert_eq!(position.offset(), 12);
/// assert_eq!(position.to_string(), "5f3a9c1d20b7e684-12");
/// # Ok::<_, grip::channels::InvalidPosition>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    epoch: u64,
    offset: u64,
}

/// The text is not a position that this library writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the position is not EPOCH-OFFSET, 16 hexadecimal digits and a number; use one that a message contained, or 0"
)]
pub struct InvalidPosition;

impl Position {
    /// The start of a channel in which nothing has been published.
    pub const START: Self = Self { epoch: 0, offset: 0 };

    /// The place after the item with this offset. Offsets start at 1.
    pub fn new(epoch: u64, offset: u64) -> Self {
        Self { epoch, offset }
    }

    /// The epoch, which names the history.
    pub fn epoch(self) -> u64 {
        self.epoch
    }

    /// The number of items that the history had here.
    pub fn offset(self) -> u64 {
        self.offset
    }

    /// The place before the item at this one.
    #[must_use]
    pub fn previous(self) -> Self {
        Self { epoch: self.epoch, offset: self.offset.saturating_sub(1) }
    }

    /// The place after the next item.
    #[must_use]
    pub fn next(self) -> Self {
        Self { epoch: self.epoch, offset: self.offset.saturating_add(1) }
    }

    /// Whether the item at `self` is the one that follows `before`. Before the first item of a history, every
    /// start is the same.
    pub fn follows(self, before: Self) -> bool {
        self.previous() == before || (self.offset == 1 && before == Self::START)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.epoch {
            0 => f.write_str("0"),
            epoch => write!(f, "{epoch:016x}-{}", self.offset),
        }
    }
}

impl FromStr for Position {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        if text == "0" {
            return Ok(Self::START);
        }

        // One text for each position: capitals, signs and leading zeros are refused.
        let (epoch, offset) = text.split_once('-').ok_or(InvalidPosition)?;
        let position = Self {
            epoch: u64::from_str_radix(epoch, 16).map_err(|_| InvalidPosition)?,
            offset: offset.parse().map_err(|_| InvalidPosition)?,
        };
        if position.epoch == 0 || position.to_string() != text {
            return Err(InvalidPosition);
        }
        Ok(position)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_that_this_library_does_not_write_is_refused() {
        for text in [
            "",
            "-",
            "1",
            "00",
            "0-0",
            "0000000000000000-1",
            "5f3a9c1d20b7e684",
            "5f3a9c1d20b7e684-",
            "5F3A9C1D20B7E684-1",
            "5f3a9c1d20b7e684-01",
            "5f3a9c1d20b7e684-+1",
            "5f3a9c1d20b7e684--1",
            "5f3a9c1d20b7e684-18446744073709551616",
        ] {
            assert_eq!(text.parse::<Position>(), Err(InvalidPosition), "{text}");
        }
    }

    #[test]
    fn only_the_next_item_of_the_same_history_follows() {
        let at = |offset| Position::new(7, offset);
        assert!(at(2).follows(at(1)) && at(1).follows(at(0)) && at(1).follows(Position::START));
        assert!(!at(2).follows(Position::START) && !at(3).follows(at(1)) && !at(1).follows(at(1)));
        assert!(!at(2).follows(Position::new(8, 1)));
    }

    proptest! {
        #[test]
        fn every_position_is_read_back_from_its_text(epoch in 1..=u64::MAX, offset: u64) {
            let position = Position::new(epoch, offset);
            prop_assert_eq!(position.to_string().parse(), Ok(position));
        }

        #[test]
        fn a_text_that_is_read_is_written_the_same(text in "[0-9a-fA-F]{0,18}-?[0-9]{0,22}|.{0,40}") {
            if let Ok(position) = text.parse::<Position>() {
                prop_assert_eq!(position.to_string(), text);
            }
        }
    }
}
