//! What a worker publishes about the jobs that it runs: how far they are, and what they log.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::message::{InvalidMessage, parse};
use crate::millis;
use crate::token::JobId;

/// The progress of some of a worker's jobs, as the worker publishes it to `{tenant}/progress`.
///
/// ```
/// use postern_types::ProgressMessage;
///
/// let message = br#"{"Jobs":[{"JobId":"ba7816bf8f01cfea414140de5dae2223","Percent":70,"At":"2026-11-24T22:51:14.123Z"}]}"#;
/// assert_eq!(ProgressMessage::parse(message)?.jobs[0].percent, Some(70.0));
/// # Ok::<(), postern_types::InvalidMessage>(())
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ProgressMessage {
    /// One entry a job.
    pub jobs: Vec<JobProgress>,
    /// The tenant to whose topic the worker published: the rule's `topic(1)`.
    #[serde(rename = "tenant", default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The worker's MQTT client id: the rule's `clientid()`.
    #[serde(rename = "worker", default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
}

/// How far one job is, and the lines that it has logged since its last entry.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct JobProgress {
    /// The job.
    pub job_id: JobId,
    /// How much of the job is done, 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<f64>,
    /// What the job is doing, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The whole value that the handler reported; the next attempt receives it as `Resume`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<RawValue>>,
    /// Lines of the job's log, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
    /// When the worker made this entry. A later entry of the job has a later time.
    #[serde(with = "millis")]
    pub at: Timestamp,
}

impl ProgressMessage {
    /// Reads a payload of `{tenant}/progress`, or the event that the IoT rule makes of it.
    pub fn parse(payload: &[u8]) -> Result<Self, InvalidMessage> {
        let mut message: Self = parse(payload)?;
        for job in &mut message.jobs {
            // The number goes into a progress bar: what does not fit there is the sender's mistake.
            job.percent = job.percent.filter(|percent| (0.0..=100.0).contains(percent));
        }
        Ok(message)
    }

    /// The message as JSON.
    pub fn bytes(&self) -> Vec<u8> {
        // Strings, finite numbers and valid JSON: serde_json has nothing to refuse.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

impl JobProgress {
    /// An entry of this job without any news.
    pub fn new(job_id: JobId, at: Timestamp) -> Self {
        Self { job_id, percent: None, message: None, data: None, log: Vec::new(), at }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "ba7816bf8f01cfea414140de5dae2223";

    #[test]
    fn an_entry_without_news_has_only_its_job_and_its_time() {
        let at = "2026-11-24T22:51:14.123456Z".parse().unwrap();
        let jobs = vec![JobProgress::new(JobId::parse(ID).unwrap(), at)];
        let message = ProgressMessage { jobs, tenant: None, worker: None };
        assert_eq!(
            String::from_utf8(message.bytes()).unwrap(),
            format!(r#"{{"Jobs":[{{"JobId":"{ID}","At":"2026-11-24T22:51:14.123Z"}}]}}"#)
        );
    }

    #[test]
    fn the_rules_own_members_are_read_and_unknown_ones_ignored() {
        let event = format!(
            r#"{{"Jobs":[{{"JobId":"{ID}","Percent":101,"More":1,"At":"2026-11-24T22:51:14.123Z"}}],
                "tenant":"plant-7","worker":"w","certificate":"c"}}"#
        );
        let message = ProgressMessage::parse(event.as_bytes()).unwrap();
        assert_eq!((message.tenant.as_deref(), message.worker.as_deref()), (Some("plant-7"), Some("w")));
        assert_eq!(message.jobs[0].percent, None, "101 % is not a percentage");
    }

    #[test]
    fn a_forged_id_and_a_missing_time_are_refused() {
        for job in [
            r#"{"JobId":"key#x","At":"2026-11-24T22:51:14.123Z"}"#.to_owned(),
            r#"{"JobId":"BA7816BF8F01CFEA414140DE5DAE2223","At":"2026-11-24T22:51:14.123Z"}"#.to_owned(),
            format!(r#"{{"JobId":"{ID}"}}"#),
        ] {
            assert!(ProgressMessage::parse(format!(r#"{{"Jobs":[{job}]}}"#).as_bytes()).is_err(), "{job}");
        }
    }

    proptest! {
        #[test]
        fn a_message_survives_the_wire(
            quarters in proptest::option::of(0_u16..=400), text in proptest::option::of(".{0,40}"),
            log in proptest::collection::vec(".{0,40}", 0..4), number in "[1-9][0-9]{0,40}",
        ) {
            let percent = quarters.map(|quarters| f64::from(quarters) / 4.0);
            let mut job = JobProgress::new(JobId::parse(ID).unwrap(), Timestamp::UNIX_EPOCH);
            job.percent = percent;
            job.message.clone_from(&text);
            job.log.clone_from(&log);
            job.data = Some(RawValue::from_string(number.clone()).unwrap());
            let wire = ProgressMessage { jobs: vec![job], tenant: None, worker: None }.bytes();

            let back = ProgressMessage::parse(&wire).unwrap().jobs.remove(0);
            prop_assert_eq!((back.percent, back.message, back.log), (percent, text, log));
            let data = back.data.unwrap();
            prop_assert_eq!(data.get(), number);
        }

        #[test]
        fn no_json_makes_the_parser_panic(text in r#"[\[\]{}:,"a-zA-Z0-9. \\-]{0,80}"#) {
            let _ = ProgressMessage::parse(text.as_bytes());
        }
    }
}
