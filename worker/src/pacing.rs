//! Keeps what one connection publishes below AWS IoT Core's limits.
//!
//! AWS takes 100 PUBLISH packets and 512 KB a second on a connection, and does not document what it does with the
//! rest. The pacer stays below both in every second, whatever has been saved up before it.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// PUBLISH packets a second, on the average.
pub(crate) const MESSAGES_A_SECOND: f64 = 80.0;
/// PUBLISH packets that may go at once after a pause. With the average they stay below 100 in any second.
const MESSAGE_BURST: f64 = 15.0;
/// Bytes a second, on the average.
pub(crate) const BYTES_A_SECOND: f64 = 360_000.0;
/// Bytes that may go at once after a pause. The last packet may overdraw them by its size, 132,096 at most; with the
/// average that stays below 512,000 in any second.
const BYTE_BURST: f64 = 16_384.0;

/// Two token buckets: one for packets and one for bytes.
pub(crate) struct Pacer {
    messages: Bucket,
    bytes: Bucket,
}

impl Pacer {
    /// A pacer for a new connection.
    pub(crate) fn new() -> Self {
        Self {
            messages: Bucket::new(MESSAGES_A_SECOND, MESSAGE_BURST),
            bytes: Bucket::new(BYTES_A_SECOND, BYTE_BURST),
        }
    }

    /// Waits until another message may go.
    pub(crate) async fn ready(&mut self) {
        let now = Instant::now();
        let ready_at = self.messages.ready_at(now).max(self.bytes.ready_at(now));
        if ready_at > now {
            sleep_until(ready_at).await;
        }
    }

    /// Counts a message that goes now.
    pub(crate) fn charge(&mut self, bytes: usize) {
        let now = Instant::now();
        self.messages.take(now, 1.0);
        #[expect(clippy::cast_precision_loss, reason = "a packet has at most some hundred thousand bytes")]
        self.bytes.take(now, bytes as f64);
    }
}

/// Fills at `rate` a second up to `burst`; a take may overdraw it.
struct Bucket {
    rate: f64,
    burst: f64,
    level: f64,
    at: Instant,
}

impl Bucket {
    fn new(rate: f64, burst: f64) -> Self {
        Self { rate, burst, level: burst, at: Instant::now() }
    }

    fn fill(&mut self, now: Instant) {
        let filled = self.rate * now.saturating_duration_since(self.at).as_secs_f64();
        self.level = (self.level + filled).min(self.burst);
        self.at = now;
    }

    fn take(&mut self, now: Instant, amount: f64) {
        self.fill(now);
        self.level -= amount;
    }

    /// When the level reaches one, from which on a take is allowed.
    fn ready_at(&mut self, now: Instant) -> Instant {
        self.fill(now);
        let missing = (1.0 - self.level).max(0.0);
        now + Duration::from_secs_f64(missing / self.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When each of `count` messages of `bytes` goes, in a paused runtime.
    async fn departures(count: usize, bytes: usize) -> Vec<Instant> {
        let mut pacer = Pacer::new();
        let mut departures = Vec::new();
        for _ in 0..count {
            pacer.ready().await;
            pacer.charge(bytes);
            departures.push(Instant::now());
        }
        departures
    }

    /// The most messages that go within any second.
    fn most_in_a_second(departures: &[Instant]) -> usize {
        let within = |start: &Instant| {
            departures.iter().filter(|at| **at >= *start && **at - *start < Duration::from_secs(1)).count()
        };
        departures.iter().map(within).max().unwrap_or(0)
    }

    #[tokio::test(start_paused = true)]
    async fn small_messages_stay_below_a_hundred_in_any_second_and_above_seventy_on_the_average() {
        let departures = departures(800, 300).await;
        assert!(most_in_a_second(&departures) < 100);
        assert!(departures[799] - departures[0] < Duration::from_secs(11));
    }

    #[tokio::test(start_paused = true)]
    async fn large_messages_stay_below_512_kilobytes_in_any_second() {
        for bytes in [5_000, 40_000, 132_096] {
            let departures = departures(50, bytes).await;
            assert!(most_in_a_second(&departures) * bytes < 512_000, "messages of {bytes} bytes");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_saves_up_no_more_than_the_burst() {
        let mut pacer = Pacer::new();
        tokio::time::sleep(Duration::from_hours(1)).await;
        let start = Instant::now();
        for _ in 0..15 {
            pacer.ready().await;
            pacer.charge(10);
        }
        assert_eq!(Instant::now(), start);

        pacer.ready().await;
        assert!(Instant::now() > start);
    }
}
