//! The message that ends a job before its time.

use serde::{Deserialize, Serialize};

use crate::limits::cut;
use crate::message::{InvalidMessage, parse};
use crate::token::JobId;

/// A request to end a job, as the cloud publishes it to `{tenant}/to/worker/cancel`. Every worker of the tenant
/// receives it; the one that has the job, or gets it later, obeys.
///
/// ```
/// use postern_types::CancelMessage;
///
/// let message = br#"{"JobId":"ba7816bf8f01cfea414140de5dae2223","Reason":"the execution was stopped"}"#;
/// assert_eq!(CancelMessage::parse(message)?.reason, "the execution was stopped");
/// # Ok::<(), postern_types::InvalidMessage>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CancelMessage {
    /// The job to end.
    pub job_id: JobId,
    /// Why, for people; at most 1,000 characters.
    #[serde(default)]
    pub reason: String,
}

impl CancelMessage {
    /// The longest reason, in characters.
    pub const REASON_CHARS: usize = 1_000;

    /// Reads a payload of `{tenant}/to/worker/cancel`. A reason that is too long is cut.
    pub fn parse(payload: &[u8]) -> Result<Self, InvalidMessage> {
        let message: Self = parse(payload)?;
        Ok(Self { reason: cut(&message.reason, Self::REASON_CHARS).to_owned(), ..message })
    }

    /// The message as JSON.
    pub fn bytes(&self) -> Vec<u8> {
        // Strings only: serde_json has nothing to refuse.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_without_a_reason_is_a_cancel_and_one_without_a_job_is_not() {
        let id = "ba7816bf8f01cfea414140de5dae2223";
        let message = CancelMessage::parse(format!(r#"{{"JobId":"{id}"}}"#).as_bytes()).unwrap();
        assert_eq!((message.job_id.as_str(), message.reason.as_str()), (id, ""));
        for wrong in [r#"{"Reason":"x"}"#, r#"{"JobId":"x"}"#, "[]", ""] {
            assert!(CancelMessage::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_long_reason_is_cut() {
        let job_id = JobId::parse("ba7816bf8f01cfea414140de5dae2223").unwrap();
        let message = CancelMessage { job_id, reason: "é".repeat(2_000) };
        assert_eq!(CancelMessage::parse(&message.bytes()).unwrap().reason.chars().count(), 1_000);
    }
}
