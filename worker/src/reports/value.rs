//! What a handler reports as its progress: any value, in which a percentage and a message are found.

use jiff::Timestamp;
use postern_types::limits::cut;
use postern_types::{JobId, JobProgress};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

/// The largest value, in bytes of JSON. The next attempt receives it beside its input, in one message.
pub(crate) const DATA_BYTES: usize = 32_768;
/// The longest message, in characters.
const MESSAGE_CHARS: usize = 1_000;

/// A progress.
#[derive(Debug, Clone)]
pub(super) struct Progress {
    percent: Option<f64>,
    message: Option<String>,
    pub(super) data: Option<Box<RawValue>>,
}

/// The members of an object that mean something to a progress bar.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Members {
    percent: Option<Box<RawValue>>,
    #[serde(rename = "Percent")]
    percent_capitalized: Option<Box<RawValue>>,
    message: Option<Box<RawValue>>,
    #[serde(rename = "Message")]
    message_capitalized: Option<Box<RawValue>>,
}

impl Progress {
    /// A number is a percentage, a string is a message, and an object may have the members `percent` and `message`.
    pub(super) fn of(value: &(impl Serialize + ?Sized)) -> Result<Self, String> {
        let data = to_raw_value(value).map_err(|error| format!("it cannot be written as JSON: {error}"))?;
        let bytes = data.get().len();
        if bytes > DATA_BYTES {
            return Err(format!("it has {bytes} bytes of JSON; it may have {DATA_BYTES}"));
        }

        let (percent, message) = match data.get().as_bytes().first() {
            Some(b'{') => {
                let members: Members = serde_json::from_str(data.get()).unwrap_or_default();
                let percent = members.percent.or(members.percent_capitalized);
                let message = members.message.or(members.message_capitalized);
                (percent.as_deref().and_then(percentage), message.as_deref().and_then(text))
            }
            _ => (percentage(&data), text(&data)),
        };
        Ok(Self { percent, message, data: Some(data) })
    }

    pub(super) fn bytes(&self) -> usize {
        let message = self.message.as_ref().map_or(0, String::len);
        message + self.data.as_ref().map_or(0, |data| data.get().len())
    }

    pub(super) fn entry(self, job_id: JobId, at: Timestamp) -> JobProgress {
        let Self { percent, message, data } = self;
        JobProgress { percent, message, data, ..JobProgress::new(job_id, at) }
    }
}

impl From<JobProgress> for Progress {
    fn from(entry: JobProgress) -> Self {
        Self { percent: entry.percent, message: entry.message, data: entry.data }
    }
}

/// A number as a percentage, at least 0 and at most 100.
fn percentage(value: &RawValue) -> Option<f64> {
    serde_json::from_str(value.get()).ok().map(|number: f64| number.clamp(0.0, 100.0))
}

fn text(value: &RawValue) -> Option<String> {
    let text: String = serde_json::from_str(value.get()).ok()?;
    Some(cut(&text, MESSAGE_CHARS).to_owned())
}
