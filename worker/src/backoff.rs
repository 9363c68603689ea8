//! The waiting time between attempts: exponential, with jitter.

use std::time::Duration;

/// Doubles the wait from half a second up to a minute. Up to half of each wait is cut off at random, so that a
/// thousand workers do not come back at the same moment.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    attempts: u32,
    last_wait: Duration,
}

impl Backoff {
    const SHORTEST: Duration = Duration::from_millis(500);
    const LONGEST: Duration = Duration::from_mins(1);

    /// The time to wait before the next attempt.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = Self::SHORTEST.saturating_mul(2_u32.saturating_pow(self.attempts)).min(Self::LONGEST);
        self.attempts = self.attempts.saturating_add(1);

        self.last_wait = wait.mul_f64(1.0 - fastrand::f64() / 2.0);
        self.last_wait
    }

    /// Starts again at the shortest wait if what was waited for then lasted four times as long as the wait.
    ///
    /// A network that fails now and then therefore costs a fifth of the time at most. Two workers with the same client
    /// id, which disconnect each other, do not reset: each connection lasts only as long as the other's wait.
    pub(crate) fn lasted(&mut self, time: Duration) {
        if time >= self.last_wait * 4 {
            self.attempts = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_and_are_never_all_equal() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..40).map(|_| backoff.next()).collect();
        assert!(waits[0] >= Duration::from_millis(250) && waits[0] <= Duration::from_millis(500));
        assert!(waits[3] >= Duration::from_secs(2) && waits[3] <= Duration::from_secs(4));
        assert!(waits.iter().all(|wait| *wait <= Backoff::LONGEST));
        assert!(waits[20..].iter().all(|wait| *wait >= Backoff::LONGEST / 2));
        assert!(waits[20..].iter().any(|wait| *wait != waits[20]), "no jitter");
    }

    #[test]
    fn only_a_connection_that_outlasts_its_wait_four_times_resets_the_waits() {
        let mut backoff = Backoff::default();
        let wait = (0..4).map(|_| backoff.next()).last().unwrap();
        backoff.lasted(wait * 3);
        assert!(backoff.next() >= Duration::from_secs(4));

        let wait = backoff.next();
        backoff.lasted(wait * 4);
        assert!(backoff.next() <= Duration::from_millis(500));
    }
}
