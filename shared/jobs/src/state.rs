//! The states of a job, and their order.

use std::fmt;
use std::str::FromStr;

/// The state of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// The dispatcher publishes the job.
    Dispatched,
    /// A worker has the job: it waits or runs there.
    Accepted,
    /// The worker answered with a result.
    Succeeded,
    /// The worker answered with a failure, or the job could not be published.
    Failed,
    /// The execution was stopped, or the job was cancelled.
    Cancelled,
    /// Step Functions gave the task or its execution up before an answer.
    TimedOut,
}

impl State {
    /// All states, in their order.
    pub const ALL: [Self; 6] =
        [Self::Dispatched, Self::Accepted, Self::Succeeded, Self::Failed, Self::Cancelled, Self::TimedOut];

    /// The state's name in the table and in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dispatched => "DISPATCHED",
            Self::Accepted => "ACCEPTED",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
            Self::TimedOut => "TIMED_OUT",
        }
    }

    /// Whether the job can still end.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Dispatched | Self::Accepted)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::as_str).join(", ");
        let state = Self::ALL.into_iter().find(|state| state.as_str() == text);
        state.ok_or_else(|| format!("the state {text:?} does not exist; it is one of {}", names()))
    }
}

/// How certain a state is. A state is written only over one of a lower rank.
///
/// An end has one of three ranks, because it is reported by up to three sources that race with one another. When a
/// worker's failure ends an execution, EventBridge may tell the canceller before `task-token-done` has written the
/// failure; the failure must still replace the canceller's `CANCELLED`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rank {
    /// [`State::Dispatched`].
    Dispatched = 1,
    /// [`State::Accepted`].
    Accepted = 2,
    /// An end that is concluded from a task that turned out to be closed.
    Concluded = 3,
    /// An end that the end of the execution brought with it.
    ExecutionEnded = 4,
    /// An end that is certain: Step Functions accepted the worker's answer, or the job was never published.
    Answered = 5,
}

impl Rank {
    /// The number in the table.
    pub fn number(self) -> u8 {
        self as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_a_name_that_is_read_back() {
        for state in State::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
        }
        assert!("RUNNING".parse::<State>().unwrap_err().contains("TIMED_OUT"));
    }
}
