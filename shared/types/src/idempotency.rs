//! The idempotency key: one name for all attempts of one task.
//!
//! The key is the same for redeliveries, retries and redrives of one entry of a state. Two items of a Map, two entries
//! of a state in a loop, and two executions have different keys, even where their inputs are equal.

use crate::digest::short_sha256;

/// Where in which execution a task runs: what distinguishes it from every other task.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StateEntry<'a> {
    /// The execution's ARN (`$$.Execution.Id`).
    pub(crate) execution: &'a str,
    /// The state's name (`$$.State.Name`).
    pub(crate) state: &'a str,
    /// The time at which the execution entered the state (`$$.State.EnteredTime`). A retry does not change it.
    pub(crate) entered_time: &'a str,
    /// The index in each enclosing Map (`$$.Map.Item.Index`), outermost first.
    pub(crate) item: &'a [u64],
}

impl StateEntry<'_> {
    /// The first 32 hexadecimal digits of the SHA-256 of the compact JSON array `[Execution, State, EnteredTime, Item]`.
    pub(crate) fn key(&self) -> String {
        let entry = (self.execution, self.state, self.entered_time, self.item);
        // Strings and numbers: serde_json has nothing to refuse.
        let json = serde_json::to_vec(&entry).unwrap_or_default();
        short_sha256(&json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_the_head_of_the_sha_256_of_the_json_array() {
        let entry =
            StateEntry { execution: "arn:e", state: "S", entered_time: "2026-01-31T12:00:00Z", item: &[] };
        // printf '["arn:e","S","2026-01-31T12:00:00Z",[]]' | sha256sum
        assert_eq!(entry.key(), "11467d32ab99eb61f8356a7e769e3299");
        let entry = StateEntry { item: &[2, 0], ..entry };
        // printf '["arn:e","S","2026-01-31T12:00:00Z",[2,0]]' | sha256sum
        assert_eq!(entry.key(), "e559241d2e5d675f89b5910f7b3715e2");
    }
}
