//! Notices that a connection makes no progress, though TCP still holds it open.
//!
//! The client library waits without a bound for the socket to take what it writes, and pings only a broker to which it
//! has sent nothing else for a keep-alive. The library's events and the [socket](super::socket) report here what goes
//! out and what comes in; [`Progress::stalled`] judges by it.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// What is under way on one connection.
#[derive(Debug, Default)]
pub(super) struct Progress {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Since when the socket has taken nothing of what there is to write.
    write_blocked: Option<Instant>,
    /// Since when the broker owes the answer to a packet and has sent nothing at all.
    unanswered: Option<Instant>,
    /// Published messages without their PUBACK.
    in_flight: usize,
    /// When the last PUBACK came, or the first message went out after a time without any in flight.
    last_puback: Option<Instant>,
}

/// Why a connection is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stall {
    /// The socket has taken nothing for this long.
    WriteBlocked(Duration),
    /// Nothing has come in answer to a packet for this long.
    Silent(Duration),
    /// The broker is alive and has acknowledged none of the published messages for this long.
    Unacknowledged(Duration),
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WriteBlocked(time) => {
                write!(f, "the broker has read nothing for {} s", time.as_secs())
            }
            Self::Silent(time) => {
                write!(f, "the broker has sent no answer for {} s", time.as_secs())
            }
            Self::Unacknowledged(time) => {
                write!(f, "the broker has acknowledged no message for {} s", time.as_secs())
            }
        }
    }
}

impl Progress {
    /// The socket cannot take more at the moment.
    pub(super) fn write_blocked(&self) {
        self.state().write_blocked.get_or_insert_with(Instant::now);
    }

    /// The socket has taken something.
    pub(super) fn written(&self) {
        self.state().write_blocked = None;
    }

    /// A packet went out that the broker has to answer.
    pub(super) fn sent(&self) {
        self.state().unanswered.get_or_insert_with(Instant::now);
    }

    /// A packet came in.
    pub(super) fn received(&self) {
        self.state().unanswered = None;
    }

    /// A message is handed over to be published.
    pub(super) fn published(&self) {
        let mut state = self.state();
        if state.in_flight == 0 {
            state.last_puback = Some(Instant::now());
        }
        state.in_flight += 1;
    }

    /// The broker has acknowledged or refused a message.
    pub(super) fn acknowledged(&self) {
        let mut state = self.state();
        state.in_flight = state.in_flight.saturating_sub(1);
        state.last_puback = Some(Instant::now());
    }

    /// Ends when the connection makes no progress.
    ///
    /// The bounds add up to less than twice the keep-alive, counted from the moment at which the broker stops: a ping
    /// goes out after one keep-alive at the latest, and its answer may take nine tenths of another.
    pub(super) async fn stalled(&self, keep_alive: Duration) -> Stall {
        loop {
            sleep(keep_alive / 40).await;
            if let Some(stall) = self.verdict(Instant::now(), keep_alive) {
                return stall;
            }
        }
    }

    fn verdict(&self, now: Instant, keep_alive: Duration) -> Option<Stall> {
        let state = self.state();
        let over = |since: Option<Instant>, limit: Duration| {
            since.map(|since| now.saturating_duration_since(since)).filter(|time| *time >= limit)
        };
        let limit = keep_alive.mul_f64(0.9);

        if let Some(time) = over(state.write_blocked, limit) {
            return Some(Stall::WriteBlocked(time));
        }
        if let Some(time) = over(state.unanswered, limit) {
            return Some(Stall::Silent(time));
        }
        let owed = state.last_puback.filter(|_| state.in_flight > 0);
        over(owed, keep_alive * 2).map(Stall::Unacknowledged)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP_ALIVE: Duration = Duration::from_secs(10);

    /// How long the connection lasts after `report` if nothing more happens.
    async fn stalls_after(progress: &Progress) -> (Stall, Duration) {
        let start = Instant::now();
        (progress.stalled(KEEP_ALIVE).await, start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_blocked_write_is_noticed_within_a_keep_alive() {
        let progress = Progress::default();
        progress.write_blocked();
        let (stall, after) = stalls_after(&progress).await;
        assert!(matches!(stall, Stall::WriteBlocked(_)) && after < KEEP_ALIVE, "{stall} {after:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_packet_without_an_answer_is_noticed_within_a_keep_alive() {
        let progress = Progress::default();
        progress.sent();
        let (stall, after) = stalls_after(&progress).await;
        assert!(matches!(stall, Stall::Silent(_)) && after < KEEP_ALIVE, "{stall} {after:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_without_its_puback_is_noticed_though_pings_are_answered() {
        let progress = Progress::default();
        progress.published();
        progress.sent();
        progress.received();
        let (stall, after) = stalls_after(&progress).await;
        assert!(matches!(stall, Stall::Unacknowledged(_)), "{stall}");
        assert!(after >= KEEP_ALIVE * 2 && after < KEEP_ALIVE * 3, "{after:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_works_or_rests_is_kept() {
        let progress = Progress::default();
        progress.write_blocked();
        progress.written();
        progress.published();
        progress.sent();
        progress.received();
        progress.acknowledged();
        tokio::time::timeout(KEEP_ALIVE * 100, progress.stalled(KEEP_ALIVE)).await.unwrap_err();
    }
}
