//! Timestamps on the wire: RFC 3339 in UTC, always with milliseconds, so that they sort as text.

use jiff::{Timestamp, Unit};
use serde::{Deserialize, Deserializer, Serializer};

/// A time as the wire shows it, such as `2026-11-24T22:51:14.123Z`.
///
/// ```
/// let time = "2026-11-24T22:51:14Z".parse().unwrap();
/// assert_eq!(postern_types::millis::text(time), "2026-11-24T22:51:14.000Z");
/// ```
pub fn text(time: Timestamp) -> String {
    format!("{:.3}", cut(time))
}

/// Writes a time with milliseconds, for `#[serde(with)]`.
pub fn serialize<S: Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&text(*time))
}

/// Reads any RFC 3339 time, for `#[serde(with)]`.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
    Timestamp::deserialize(from)
}

/// The same for a time that may be absent.
pub mod optional {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes a time with milliseconds, or `null`.
    pub fn serialize<S: Serializer>(time: &Option<Timestamp>, to: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => to.serialize_str(&crate::millis::text(*time)),
            None => to.serialize_none(),
        }
    }

    /// Reads any RFC 3339 time, or `null`.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
        Option::deserialize(from)
    }
}

/// The time without what is smaller than a millisecond. Cutting never moves a time into the future, as rounding would.
fn cut(time: Timestamp) -> Timestamp {
    let round = jiff::TimestampRound::new().smallest(Unit::Millisecond).mode(jiff::RoundMode::Floor);
    time.round(round).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_texts_of_two_times_sort_as_the_times_do(
            one in 0_i64..4_000_000_000_000_000, other in 0_i64..4_000_000_000_000_000,
        ) {
            let [one, other] = [one, other].map(|time| Timestamp::from_microsecond(time).unwrap());
            let (first, second) = (text(one), text(other));
            prop_assert_eq!(first.len(), second.len());
            prop_assert_eq!(first.cmp(&second), one.as_millisecond().cmp(&other.as_millisecond()));
            prop_assert_eq!(first.parse::<Timestamp>().unwrap().as_millisecond(), one.as_millisecond());
        }
    }
}
