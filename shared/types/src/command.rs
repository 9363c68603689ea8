//! What the cloud tells one worker.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::claim::{InputRef, ObjectRef};
use crate::message::{InvalidMessage, parse};
use crate::token::JobId;

/// A message to one worker, as the cloud publishes it to `{tenant}/to/worker/{clientId}`.
///
/// ```
/// use postern_types::Command;
///
/// assert_eq!(Command::parse(br#"{"Command":"PAUSE"}"#)?, Command::Pause);
/// assert_eq!(Command::Resume.bytes(), br#"{"Command":"RESUME"}"#);
/// # Ok::<(), postern_types::InvalidMessage>(())
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "Command", rename_all = "UPPERCASE", rename_all_fields = "PascalCase")]
pub enum Command {
    /// No new job starts until [`Command::Resume`].
    Pause,
    /// New jobs start again.
    Resume,
    /// How many jobs run at a time from now on.
    Concurrency {
        /// 1 to 1,000.
        concurrency: u16,
    },
    /// The answer to a worker's `UPLOAD`: where the result goes.
    Upload {
        /// The job whose result it is.
        job_id: JobId,
        /// A presigned URL for one PUT. It is a credential and is never logged.
        url: String,
        /// Headers that the PUT must carry: they are signed.
        #[serde(default)]
        headers: BTreeMap<String, String>,
        /// The object's place after the upload.
        result_ref: ObjectRef,
    },
    /// The answer to a worker's `DOWNLOAD`: a new presigned URL for the job's input.
    Download {
        /// The job whose input it is.
        job_id: JobId,
        /// The place of the input.
        input_ref: InputRef,
    },
    /// An `UPLOAD` or `DOWNLOAD` cannot be granted: the job fails with this error.
    Refused {
        /// The job that asked.
        job_id: JobId,
        /// The name that `Retry` and `Catch` match.
        error: String,
        /// Why, for people.
        #[serde(default)]
        cause: String,
    },
}

impl Command {
    /// The largest concurrency that a command can set.
    pub const MOST_CONCURRENCY: u16 = 1_000;

    /// Reads a payload of `{tenant}/to/worker/{clientId}`. An unknown command is an error that names it.
    pub fn parse(payload: &[u8]) -> Result<Self, InvalidMessage> {
        match parse(payload)? {
            Self::Concurrency { concurrency } if !(1..=Self::MOST_CONCURRENCY).contains(&concurrency) => {
                let most = Self::MOST_CONCURRENCY;
                Err(InvalidMessage(format!("Concurrency is {concurrency}; it must be 1 to {most}")))
            }
            command => Ok(command),
        }
    }

    /// The command's name on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pause => "PAUSE",
            Self::Resume => "RESUME",
            Self::Concurrency { .. } => "CONCURRENCY",
            Self::Upload { .. } => "UPLOAD",
            Self::Download { .. } => "DOWNLOAD",
            Self::Refused { .. } => "REFUSED",
        }
    }

    /// The message as JSON.
    pub fn bytes(&self) -> Vec<u8> {
        // Strings and numbers only: serde_json has nothing to refuse.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

impl std::fmt::Debug for Command {
    /// Shows the command's name and job only: the rest may hold credentials.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pause | Self::Resume => f.write_str(self.name()),
            Self::Concurrency { concurrency } => write!(f, "CONCURRENCY {concurrency}"),
            Self::Upload { job_id, .. } | Self::Download { job_id, .. } | Self::Refused { job_id, .. } => {
                write!(f, "{} for job {job_id}", self.name())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "ba7816bf8f01cfea414140de5dae2223";

    #[test]
    fn every_command_of_the_contract_is_read_and_written() {
        let reference = r#"{"Bucket":"b","Key":"k","Url":"https://u","Bytes":7,"Sha256":"ab"}"#;
        for wire in [
            r#"{"Command":"PAUSE"}"#.to_owned(),
            r#"{"Command":"RESUME"}"#.to_owned(),
            r#"{"Command":"CONCURRENCY","Concurrency":4}"#.to_owned(),
            format!(
                r#"{{"Command":"UPLOAD","JobId":"{ID}","Url":"https://u","Headers":{{"Content-Length":"7"}},"ResultRef":{{"Bucket":"b","Key":"k"}}}}"#
            ),
            format!(r#"{{"Command":"DOWNLOAD","JobId":"{ID}","InputRef":{reference}}}"#),
            format!(r#"{{"Command":"REFUSED","JobId":"{ID}","Error":"E","Cause":"why"}}"#),
        ] {
            let command = Command::parse(wire.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(command.bytes()).unwrap(), wire);
            assert!(wire.contains(command.name()));
        }
    }

    #[test]
    fn what_is_not_a_command_is_an_error_that_names_it() {
        for (wire, words) in [
            (r#"{"Command":"DANCE"}"#, "DANCE"),
            (r#"{"Command":"CONCURRENCY"}"#, "Concurrency"),
            (r#"{"Command":"CONCURRENCY","Concurrency":0}"#, "1 to 1000"),
            (r#"{"Command":"CONCURRENCY","Concurrency":1001}"#, "1 to 1000"),
            (r#"{"Command":"REFUSED","JobId":"x","Error":"E"}"#, "32"),
            ("[]", "an array"),
            ("", "not JSON"),
        ] {
            let error = Command::parse(wire.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(words), "{wire}: {error}");
        }
    }

    #[test]
    fn a_presigned_url_is_not_printed() {
        let wire = format!(
            r#"{{"Command":"UPLOAD","JobId":"{ID}","Url":"https://secret","ResultRef":{{"Bucket":"b","Key":"k"}}}}"#
        );
        let shown = format!("{:?}", Command::parse(wire.as_bytes()).unwrap());
        assert!(shown.contains(ID) && !shown.contains("secret"), "{shown}");
    }

    proptest! {
        #[test]
        fn no_json_makes_the_parser_panic(text in r#"[\[\]{}:,"a-zA-Z0-9. \\-]{0,80}"#) {
            let _ = Command::parse(text.as_bytes());
        }
    }
}
