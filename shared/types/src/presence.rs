//! What a worker says of itself, in a retained message.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::message::{InvalidMessage, parse};
use crate::millis;
use crate::token::JobId;

/// A worker's state, as it publishes it, retained, to `{tenant}/workers/{clientId}`. The same message with the state
/// [`WorkerState::Down`] is the worker's will.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Presence {
    /// The worker's client id.
    pub worker: String,
    /// Whether the worker takes jobs.
    pub state: WorkerState,
    /// The version of the worker's program.
    #[serde(default)]
    pub version: String,
    /// The kinds of jobs that the worker has a handler for.
    #[serde(default)]
    pub kinds: Vec<String>,
    /// The group whose jobs the worker shares.
    #[serde(default)]
    pub group: Option<String>,
    /// How many jobs run at a time.
    #[serde(default)]
    pub concurrency: usize,
    /// How many jobs run now.
    #[serde(default)]
    pub running: usize,
    /// How many jobs wait in the worker for a slot.
    #[serde(default)]
    pub waiting: usize,
    /// The jobs that the worker holds, running ones first; at most [`Presence::MOST_JOBS`].
    #[serde(default)]
    pub jobs: Vec<JobId>,
    /// When the worker's certificate ends.
    #[serde(default, with = "millis::optional")]
    pub certificate_ends: Option<Timestamp>,
    /// When the worker's process started.
    #[serde(with = "millis")]
    pub started_at: Timestamp,
    /// When the worker made this message; of a will, when the worker connected.
    #[serde(with = "millis")]
    pub at: Timestamp,
}

/// Whether a worker takes jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum WorkerState {
    /// The worker takes jobs and runs them.
    Up,
    /// No new job starts.
    Paused,
    /// The worker is about to end: running jobs may end, none starts.
    Draining,
    /// The worker has ended, or its connection has.
    Down,
}

impl Presence {
    /// The most jobs that the message names.
    pub const MOST_JOBS: usize = 50;

    /// Reads a payload of `{tenant}/workers/{clientId}`.
    pub fn parse(payload: &[u8]) -> Result<Self, InvalidMessage> {
        parse(payload)
    }

    /// The message as JSON.
    pub fn bytes(&self) -> Vec<u8> {
        // Strings and numbers only: serde_json has nothing to refuse.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_presence_has_the_members_of_the_contract() {
        let presence = Presence {
            worker: "plant-7".into(),
            state: WorkerState::Draining,
            version: "1.0.0".into(),
            kinds: vec!["add".into()],
            group: None,
            concurrency: 8,
            running: 1,
            waiting: 0,
            jobs: vec![JobId::parse("ba7816bf8f01cfea414140de5dae2223").unwrap()],
            certificate_ends: "2027-01-01T00:00:00Z".parse().ok(),
            started_at: Timestamp::UNIX_EPOCH,
            at: Timestamp::UNIX_EPOCH,
        };
        let wire = r#"{"Worker":"plant-7","State":"DRAINING","Version":"1.0.0","Kinds":["add"],"Group":null,"Concurrency":8,"Running":1,"Waiting":0,"Jobs":["ba7816bf8f01cfea414140de5dae2223"],"CertificateEnds":"2027-01-01T00:00:00.000Z","StartedAt":"1970-01-01T00:00:00.000Z","At":"1970-01-01T00:00:00.000Z"}"#;

        assert_eq!(String::from_utf8(presence.bytes()).unwrap(), wire);
        assert_eq!(Presence::parse(wire.as_bytes()).unwrap(), presence);
    }

    #[test]
    fn a_message_of_another_form_is_refused() {
        for wire in ["", "[]", r#"{"Worker":"w"}"#, r#"{"Worker":"w","State":"AWAY"}"#] {
            assert!(Presence::parse(wire.as_bytes()).is_err(), "{wire}");
        }
    }
}
