//! The waiting time between attempts: exponential, with jitter.

use std::time::Duration;

/// Doubles the wait from half a second up to a minute. Up to half of each wait is cut off at random, so that a
/// thousand workers do not come back at the same moment.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    attempts: u32,
}

impl Backoff {
    const SHORTEST: Duration = Duration::from_millis(500);
    /// The longest wait between two attempts.
    pub(crate) const LONGEST: Duration = Duration::from_mins(1);

    /// The time to wait before the next attempt.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = Self::SHORTEST.saturating_mul(2_u32.saturating_pow(self.attempts)).min(Self::LONGEST);
        self.attempts = self.attempts.saturating_add(1);

        wait.mul_f64(1.0 - fastrand::f64() / 2.0)
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
}
