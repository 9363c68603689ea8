use std::fmt;

use serde::{Deserialize, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::limits::TASK_TOKEN_CHARS;

/// A Step Functions task token: whoever holds it can close the task. It is never printed; show its
/// [`JobId`] instead.
#[derive(Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct TaskToken(String);

/// Why a string cannot be a task token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// There is no text in it.
    #[error("the task token is empty; pass the state machine's $$.Task.Token")]
    Empty,
    /// Longer than Step Functions ever makes one.
    #[error("the task token has {0} characters; Step Functions' own have at most {TASK_TOKEN_CHARS}")]
    TooLong(usize),
}

impl TaskToken {
    /// Takes a token of 1 to 2,048 characters that is not blank.
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

    /// The secret itself, for the one call that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The public name of the job that this token belongs to.
    pub fn job_id(&self) -> JobId {
        let digest: [u8; 32] = Sha256::digest(self.0.as_bytes()).into();
        let (head, _) = digest.split_at(JobId::BYTES);
        JobId(head.iter().fold(String::new(), |digits, byte| digits + &format!("{byte:02x}")))
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

/// Names a job in logs, topics and the console: the first 16 bytes of the task token's SHA-256, as 32
/// lower-case hexadecimal digits. The same for a redelivery, another for a retry, and it gives nothing away.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct JobId(String);

impl JobId {
    const BYTES: usize = 16;

    /// The 32 digits.
    pub fn as_str(&self) -> &str {
        &self.0
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
