//! Presence: the worker's state in a retained message, for whoever asks which workers there are. The same message with
//! the state `DOWN` is the worker's will, which the broker publishes when the connection falls.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use postern_types::{Presence, Topic, WorkerState};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::health::Health;
use crate::link::{Guarantee, Link, Priority, PublishError};
use crate::runs::Runs;
use crate::tls;

/// The shortest time between two messages.
const SHORTEST: Duration = Duration::from_secs(2);
/// The longest time between two messages.
const LONGEST: Duration = Duration::from_mins(1);
/// How long the last message may take.
const LAST_CHANCE: Duration = Duration::from_secs(2);

/// What stays the same while the worker's process lives.
#[derive(Debug, Clone)]
pub struct About {
    /// The worker's client id.
    pub worker: String,
    /// The version of the worker's program.
    pub version: String,
    /// The kinds of jobs that the worker has a handler for.
    pub kinds: Vec<String>,
    /// The group whose jobs the worker shares.
    pub group: Option<String>,
    /// The PEM file of the worker's certificate. It is read for each message, because it may be renewed.
    pub certificate: Option<PathBuf>,
    /// The topic of the worker's state.
    pub topic: Topic,
    /// When the process started.
    pub started_at: Timestamp,
}

impl About {
    /// The will: what the broker publishes when the connection falls.
    pub fn will(&self) -> Bytes {
        self.with_certificate(self.presence(WorkerState::Down)).bytes().into()
    }

    fn with_certificate(&self, presence: Presence) -> Presence {
        let certificate_ends = self.certificate.as_ref().and_then(|file| tls::valid_until(file).ok());
        Presence { certificate_ends, ..presence }
    }

    fn presence(&self, state: WorkerState) -> Presence {
        Presence {
            worker: self.worker.clone(),
            state,
            version: self.version.clone(),
            kinds: self.kinds.clone(),
            group: self.group.clone(),
            concurrency: 0,
            running: 0,
            waiting: 0,
            jobs: Vec::new(),
            certificate_ends: None,
            started_at: self.started_at,
            at: Timestamp::now(),
        }
    }
}

/// Publishes the worker's state.
pub(crate) struct Publisher<L> {
    pub(crate) about: About,
    pub(crate) link: L,
    pub(crate) health: Health,
    pub(crate) runs: Arc<Runs>,
}

impl<L: Link> Publisher<L> {
    /// Publishes the state on each connection, when it has changed, and once a minute. Ends when the link has ended.
    pub(crate) async fn run(&self) {
        let mut connections = self.link.controlled();
        let mut ticks = interval(SHORTEST);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last: Option<(Presence, Instant)> = None;

        loop {
            ticks.tick().await;
            if connections.has_changed().unwrap_or(false) {
                last = None;
            }
            if *connections.borrow_and_update() == 0 {
                continue;
            }
            let presence = self.presence();
            let known = last.as_ref().is_some_and(|(last, since)| {
                let same = Presence { at: last.at, ..presence.clone() } == *last;
                same && since.elapsed() < LONGEST
            });
            if known {
                continue;
            }

            match self.publish(&presence).await {
                Ok(()) => {}
                Err(PublishError::Closed) => return,
                Err(error) => tracing::warn!("the worker's state was not published: {error}"),
            }
            last = Some((presence, Instant::now()));
        }
    }

    /// Publishes that the worker has ended, if it is connected.
    pub(crate) async fn end(&self) {
        if self.health.is_connected() && *self.link.controlled().borrow() > 0 {
            let presence = self.about.presence(WorkerState::Down);
            // The will says the same, unless the broker gets a proper end.
            let _ = timeout(LAST_CHANCE, self.publish(&presence)).await;
        }
    }

    async fn publish(&self, presence: &Presence) -> Result<(), PublishError> {
        let payload = self.about.with_certificate(presence.clone()).bytes().into();
        self.link.publish(&self.about.topic, payload, Priority::View, Guarantee::Retained).await
    }

    fn presence(&self) -> Presence {
        let state = match (self.health.is_draining(), self.health.is_paused()) {
            (true, _) => WorkerState::Draining,
            (false, true) => WorkerState::Paused,
            (false, false) => WorkerState::Up,
        };
        let held = self.runs.held();
        let jobs = held.running.iter().chain(&held.waiting).take(Presence::MOST_JOBS).cloned().collect();

        Presence {
            concurrency: self.health.slots(),
            running: held.handlers,
            waiting: held.waiting.len(),
            jobs,
            ..self.about.presence(state)
        }
    }
}
