//! The task token, which is a secret, and the job id, which is not.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

use crate::digest::short_sha256;
use crate::limits::TASK_TOKEN_CHARS;

/// A Step Functions task token. Its holder can close the task, so its value is never logged; logs show the [`JobId`].
///
/// ```
/// let token = postern_types::TaskToken::parse("AQCEAAAAKgAAAAMA")?;
/// assert!(!format!("{token:?}").contains("AQCE"));
/// # Ok::<(), postern_types::InvalidToken>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct TaskToken(String);

/// The reason for which a text cannot be a task token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// The text is empty or blank.
    #[error("the task token is empty; pass the state machine's $$.Task.Token")]
    Empty,
    /// The text is longer than any token of Step Functions.
    #[error("the task token has {0} characters; Step Functions' own have at most {TASK_TOKEN_CHARS}")]
    TooLong(usize),
}

impl TaskToken {
    /// Accepts a text of 1 to 2,048 characters that is not blank.
    pub fn parse(token: impl Into<String>) -> Result<Self, InvalidToken> {
        let token = token.into();
        if token.trim().is_empty() {
            return Err(InvalidToken::Empty);
        }
        match token.chars().count() {
            chars if chars > TASK_TOKEN_CHARS => Err(InvalidToken::TooLong(chars)),
            _ => Ok(Self(token)),
        }
    }

    /// The secret itself, for the call to Step Functions and for the wire.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The id of the job that this token belongs to.
    pub fn job_id(&self) -> JobId {
        JobId(short_sha256(self.0.as_bytes()))
    }
}

impl TryFrom<String> for TaskToken {
    type Error = InvalidToken;

    fn try_from(token: String) -> Result<Self, InvalidToken> {
        Self::parse(token)
    }
}

impl fmt::Debug for TaskToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskToken(job {})", self.job_id())
    }
}

impl Serialize for TaskToken {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

/// The public name of a job in logs, topics and the console: the first 32 lower-case hexadecimal digits of the task
/// token's SHA-256. A redelivery keeps the id, a retry gets another, and the id does not reveal the token.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct JobId(String);

/// A text that is not a job id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a job id has 32 lower-case hexadecimal digits, such as ba7816bf8f01cfea414140de5dae2223")]
pub struct InvalidJobId;

impl JobId {
    /// Accepts 32 lower-case hexadecimal digits.
    pub fn parse(id: impl Into<String>) -> Result<Self, InvalidJobId> {
        let id = id.into();
        let digits = id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if id.len() == 32 && digits { Ok(Self(id)) } else { Err(InvalidJobId) }
    }

    /// The 32 digits as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for JobId {
    type Error = InvalidJobId;

    fn try_from(id: String) -> Result<Self, InvalidJobId> {
        Self::parse(id)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_1_to_2048_characters() {
        assert_eq!(TaskToken::parse("").unwrap_err(), InvalidToken::Empty);
        assert_eq!(TaskToken::parse(" \n").unwrap_err(), InvalidToken::Empty);
        assert!(TaskToken::parse("x").is_ok());
        assert!(TaskToken::parse("é".repeat(2_048)).is_ok());
        assert_eq!(TaskToken::parse("x".repeat(2_049)).unwrap_err(), InvalidToken::TooLong(2_049));
    }

    #[test]
    fn a_token_is_not_printed() {
        let token = TaskToken::parse("AQCEAAAAKgAAAAMAAAAA-secret").unwrap();
        assert!(!format!("{token:?}").contains("secret"));
        assert_eq!(token.expose(), "AQCEAAAAKgAAAAMAAAAA-secret");
    }

    #[test]
    fn a_job_id_is_the_head_of_the_tokens_sha_256() {
        // printf abc | sha256sum
        let id = TaskToken::parse("abc").unwrap().job_id();
        assert_eq!(id.as_str(), "ba7816bf8f01cfea414140de5dae2223");
    }
}
