//! Times in the table: their text, and when items expire.

use jiff::{SignedDuration, Timestamp};
pub use postern_types::millis::text as time_text;

/// How long an item stays after its job's last change of state or, if the job does not end, after its deadline.
const KEEP: SignedDuration = SignedDuration::from_hours(30 * 24);

/// The longest that an execution may take, and therefore an open job without a deadline.
const LONGEST_JOB: SignedDuration = SignedDuration::from_hours(365 * 24);

/// The time at which DynamoDB may delete an item, in seconds, as its TTL expects it.
pub(crate) fn expires_at(now: Timestamp, deadline: Option<Timestamp>, is_open: bool) -> i64 {
    let last = if is_open { deadline.unwrap_or(now + LONGEST_JOB) } else { now };
    last.max(now).saturating_add(KEEP).map_or(i64::MAX, Timestamp::as_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_stays_for_thirty_days_after_its_end_and_longer_while_its_job_is_open() {
        let (now, days) = (Timestamp::UNIX_EPOCH, |days: i64| days * 86_400);
        assert_eq!(expires_at(now, None, false), days(30));
        assert_eq!(expires_at(now, None, true), days(395));
        assert_eq!(expires_at(now, Some(now + SignedDuration::from_hours(48)), true), days(32));
        assert_eq!(expires_at(now, Some(Timestamp::MAX), true), Timestamp::MAX.as_second());
    }
}
