//! The intake: takes jobs from the link while the worker may take them.
//!
//! A paused worker leaves jobs with the broker, unacknowledged, but not more than [`HELD_BACK`]: beyond the hundred
//! messages that a broker has in flight it sends nothing more, not even the command that ends the pause. A worker that
//! holds back too many takes the oldest in, where they wait in the journal.

use std::collections::VecDeque;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::admission::Admission;
use crate::link::{Incoming, Link};

/// The most jobs that a paused worker leaves unacknowledged.
const HELD_BACK: usize = 50;

/// Takes jobs.
pub(crate) struct Intake<L: Link> {
    pub(crate) incoming: mpsc::Receiver<Incoming<L::Receipt>>,
    /// Jobs that have arrived during a pause, oldest first.
    pub(crate) held_back: VecDeque<(Bytes, L::Receipt)>,
}

/// Why no more jobs come.
pub(crate) enum NoMore {
    /// The broker refused the subscription. The text explains why.
    SubscriptionRefused(String),
    /// The link has ended.
    LinkEnded,
}

impl<L: Link> Intake<L> {
    pub(crate) fn new(incoming: mpsc::Receiver<Incoming<L::Receipt>>) -> Self {
        Self { incoming, held_back: VecDeque::new() }
    }

    /// Takes jobs in until no more come.
    pub(crate) async fn run(&mut self, admission: &Admission<L>) -> NoMore {
        loop {
            if let Err(no_more) = self.step(admission).await {
                return no_more;
            }
        }
    }

    async fn step(&mut self, admission: &Admission<L>) -> Result<(), NoMore> {
        let pause = &admission.execution.pause;
        let room = admission.wait_for_room().await;
        let paused = pause.is_paused();
        if !paused && !self.held_back.is_empty() {
            let count = self.held_back.len().min(room);
            admission.receive(self.held_back.drain(..count).collect()).await;
            return Ok(());
        }

        let mut batch = Vec::new();
        let received = tokio::select! {
            received = self.incoming.recv_many(&mut batch, room) => received,
            () = pause.changed_from(paused) => return Ok(()),
        };
        if received == 0 {
            return Err(NoMore::LinkEnded);
        }

        let mut refused = Ok(());
        for received in batch {
            match received {
                Incoming::Message { payload, receipt } => self.held_back.push_back((payload, receipt)),
                Incoming::SubscriptionRefused(reason) => refused = Err(NoMore::SubscriptionRefused(reason)),
            }
        }
        let kept = if paused { HELD_BACK } else { 0 };
        let taken = self.held_back.len().saturating_sub(kept);
        if taken > 0 {
            admission.receive(self.held_back.drain(..taken).collect()).await;
        }
        refused
    }
}
