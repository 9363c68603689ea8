//! The hour of a record, by which the tables are divided.

use std::fmt;

use jiff::Timestamp;

const MILLISECONDS: i64 = 3_600_000;

/// The hour of a record's timestamp in UTC, or `None` for a record without a timestamp, or with one that no calendar
/// contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hour(Option<i64>);

impl Hour {
    /// The hour of a timestamp in milliseconds since 1970.
    pub fn of(milliseconds: Option<i64>) -> Self {
        let valid = milliseconds.filter(|time| Timestamp::from_millisecond(*time).is_ok());
        Self(valid.map(|time| time.div_euclid(MILLISECONDS)))
    }

    /// Whether the hour has ended at this time. Records without a timestamp do not wait.
    pub fn has_ended(self, milliseconds: i64) -> bool {
        self.0.is_none_or(|hour| (hour + 1) * MILLISECONDS <= milliseconds)
    }
}

impl fmt::Display for Hour {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = self.0.and_then(|hour| Timestamp::from_millisecond(hour * MILLISECONDS).ok());
        match start {
            Some(start) => write!(formatter, "{}", start.strftime("%Y-%m-%dT%H")),
            None => formatter.write_str("undated"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_begins_with_its_first_millisecond_and_has_ended_with_the_next_hours_first() {
        let hour = Hour::of(Some(1_767_225_600_000));
        assert_eq!(hour.to_string(), "2026-01-01T00");
        assert_eq!(Hour::of(Some(1_767_225_599_999)).to_string(), "2025-12-31T23");
        assert!(!hour.has_ended(1_767_229_199_999));
        assert!(hour.has_ended(1_767_229_200_000));
    }

    #[test]
    fn a_record_without_a_usable_timestamp_is_undated() {
        for time in [None, Some(i64::MAX)] {
            assert_eq!(Hour::of(time).to_string(), "undated");
            assert!(Hour::of(time).has_ended(0));
        }
    }
}
