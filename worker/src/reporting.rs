//! Reporting: once a second, brings what handlers have reported to the broker and to the journal. Nothing waits for it:
//! a broker or a disk that is away holds up no handler.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use postern_types::Topic;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::health::Health;
use crate::journal::Journal;
use crate::link::{Guarantee, Link, Priority};
use crate::reports::Reports;

/// The shortest time between two messages.
const EVERY: Duration = Duration::from_secs(1);
/// How long the last message may take.
const LAST_CHANCE: Duration = Duration::from_secs(2);

/// Sends and keeps reports.
pub(crate) struct Reporting<L> {
    pub(crate) link: L,
    pub(crate) topic: Topic,
    pub(crate) reports: Arc<Reports>,
    pub(crate) journal: Journal,
    pub(crate) health: Health,
}

impl<L: Link> Reporting<L> {
    /// Works until it is dropped.
    pub(crate) async fn run(&self) {
        tokio::join!(self.send_all(), self.keep_all());
    }

    /// Sends what is left, if the worker is connected.
    pub(crate) async fn end(&self) {
        if self.health.is_connected() {
            let _ = timeout(LAST_CHANCE, self.send()).await;
        }
    }

    async fn send_all(&self) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.send().await;
        }
    }

    async fn send(&self) {
        // An older policy may not allow it, and a broker may end a connection for that.
        if *self.link.controlled().borrow() == 0 {
            return;
        }
        let Some(message) = self.reports.take(Timestamp::now()) else { return };

        let payload = message.bytes().into();
        let sent = self.link.publish(&self.topic, payload, Priority::View, Guarantee::AtMostOnce).await;
        if let Err(error) = sent {
            tracing::debug!("a progress was not published: {error}");
        }
    }

    /// Notes the progress of jobs that may run again after a crash.
    async fn keep_all(&self) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let progress = self.reports.take_to_keep();
            if !progress.is_empty() {
                let texts = progress.into_iter().map(|(job_id, data)| (job_id, data.get().to_owned()));
                self.journal.progress(texts.collect()).await;
            }
        }
    }
}
