//! What is written about a job, and what is read.

use jiff::Timestamp;
use postern_types::{JobId, Tenant};

use crate::cursor::Cursor;
use crate::state::{Rank, State};
use crate::time::time_text;

/// The most characters of an error's cause that are kept.
pub(crate) const CAUSE_CHARS: usize = 1_000;

/// A job that is about to be published.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// The tenant whose worker runs the job.
    pub tenant: Tenant,
    /// The job's id.
    pub job_id: JobId,
    /// The name of the handler, or `approval`.
    pub kind: Option<String>,
    /// The name that people gave the job.
    pub name: Option<String>,
    /// The execution's ARN.
    pub execution: Option<String>,
    /// The name of the state that waits for the job.
    pub state_name: Option<String>,
    /// The number of retries before this attempt.
    pub attempt: Option<u32>,
    /// The key that all attempts of one state entry share.
    pub idempotency_key: Option<String>,
    /// The topic to which the job is published.
    pub topic: Option<String>,
    /// When the job is published.
    pub dispatched_at: Timestamp,
    /// When the task times out.
    pub deadline: Option<Timestamp>,
    /// The progress of an earlier attempt that the job carries, as JSON text.
    pub resume: Option<String>,
    /// The sealed link of an approval.
    pub approval: Option<String>,
}

impl NewJob {
    /// A job of which nothing is known but its id.
    pub fn new(tenant: Tenant, job_id: JobId, dispatched_at: Timestamp) -> Self {
        Self {
            tenant,
            job_id,
            kind: None,
            name: None,
            execution: None,
            state_name: None,
            attempt: None,
            idempotency_key: None,
            topic: None,
            dispatched_at,
            deadline: None,
            resume: None,
            approval: None,
        }
    }
}

/// The end of a job.
#[derive(Debug, Clone)]
pub struct End {
    /// The state in which the job ends. It must not be an open state.
    pub state: State,
    /// How certain the end is.
    pub rank: Rank,
    /// The worker that answered.
    pub worker: Option<String>,
    /// The failure's name.
    pub error: Option<String>,
    /// The failure's explanation. The table keeps its first 1,000 characters.
    pub cause: Option<String>,
}

impl End {
    /// An end without a failure or a worker.
    pub fn new(state: State, rank: Rank) -> Self {
        Self { state, rank, worker: None, error: None, cause: None }
    }

    /// The end with a failure's name and explanation.
    #[must_use]
    pub fn because(mut self, error: impl Into<String>, cause: impl Into<String>) -> Self {
        self.error = Some(error.into());
        self.cause = Some(cause.into());
        self
    }
}

/// What a worker reports about a job that runs.
#[derive(Debug, Clone)]
pub struct Progress {
    /// The job's id.
    pub job_id: JobId,
    /// The part that is done, from 0 to 100.
    pub percent: Option<f64>,
    /// A text for people.
    pub message: Option<String>,
    /// The handler's own value, as JSON text: what the next attempt resumes from.
    pub data: Option<String>,
    /// New lines of the job's log.
    pub log: Vec<String>,
    /// When the handler reported it.
    pub at: Timestamp,
}

/// A job, as it is read from the table. Jobs of a list have no `data`, `log`, `topic`, `approval` and `idempotency_key`.
#[derive(Debug, Clone, PartialEq)]
pub struct JobItem {
    /// The tenant whose worker runs the job.
    pub tenant: String,
    /// The job's id.
    pub job_id: String,
    /// The state.
    pub state: State,
    /// How certain the state is: [`Rank::number`].
    pub rank: u8,
    /// The name of the handler, or `approval`.
    pub kind: Option<String>,
    /// The name that people gave the job.
    pub name: Option<String>,
    /// The execution's ARN.
    pub execution: Option<String>,
    /// The name of the state that waits for the job.
    pub state_name: Option<String>,
    /// The number of retries before this attempt.
    pub attempt: Option<u32>,
    /// The key that all attempts of one state entry share.
    pub idempotency_key: Option<String>,
    /// The MQTT client id of the worker that has the job.
    pub worker: Option<String>,
    /// The topic to which the job was published.
    pub topic: Option<String>,
    /// When the job was published, as [`crate::time_text`].
    pub dispatched_at: Option<String>,
    /// When a worker accepted the job.
    pub accepted_at: Option<String>,
    /// When the job ended.
    pub ended_at: Option<String>,
    /// When the task times out.
    pub deadline: Option<String>,
    /// The part that is done, from 0 to 100.
    pub percent: Option<f64>,
    /// The last message for people. Its content is the handler's: show it as text, never as markup.
    pub message: Option<String>,
    /// The last value of the handler's progress, as JSON text.
    pub data: Option<String>,
    /// When the handler reported its last progress.
    pub progress_at: Option<String>,
    /// The tail of the job's log, at most [`crate::LOG_LINES`] lines and [`crate::LOG_BYTES`] bytes.
    pub log: Vec<String>,
    /// Whether the job carries the progress of an earlier attempt.
    pub resumed: bool,
    /// The failure's name.
    pub error: Option<String>,
    /// The failure's explanation.
    pub cause: Option<String>,
    /// The sealed link of an approval. It is a credential: it must not reach a person who may not approve.
    pub approval: Option<String>,
}

/// A job of an execution that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenJob {
    /// The tenant whose worker has the job.
    pub tenant: Tenant,
    /// The job's id.
    pub job_id: JobId,
    /// When the task times out.
    pub deadline: Option<Timestamp>,
}

/// Which jobs of a tenant a list contains.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter {
    /// Only jobs in this state.
    pub state: Option<State>,
    /// Only jobs that were dispatched at this time or later.
    pub from: Option<Timestamp>,
    /// Only jobs that were dispatched at this time or earlier.
    pub to: Option<Timestamp>,
}

impl Filter {
    /// The first and the last time of dispatch, as the table writes times. Earlier than 1970 and later than the year 9999
    /// there are no jobs.
    pub(crate) fn range(&self) -> (String, String) {
        let from = self.from.unwrap_or(Timestamp::UNIX_EPOCH).max(Timestamp::UNIX_EPOCH);
        (time_text(from), time_text(self.to.unwrap_or(Timestamp::MAX)))
    }

    /// Whether a page of this list can begin after the cursor. DynamoDB refuses a cursor from outside of a query's range.
    pub fn contains(&self, cursor: &Cursor) -> bool {
        let (from, to) = self.range();
        (from..=to).contains(&cursor.dispatched_at)
    }

    /// Whether no job can be in the list, because the range of time ends before it begins. DynamoDB refuses such a query.
    pub fn is_empty(&self) -> bool {
        let from = self.from.unwrap_or(Timestamp::UNIX_EPOCH).max(Timestamp::UNIX_EPOCH);
        self.to.is_some_and(|to| to < from)
    }
}

/// A page of a list, the newest job first.
#[derive(Debug, Clone)]
pub struct Page {
    /// The jobs.
    pub jobs: Vec<JobItem>,
    /// The cursor of the next page. The last page has none.
    pub next: Option<Cursor>,
}

/// The part that is done, within 0 to 100 and with three decimals, so that its text is short.
pub(crate) fn percent(value: f64) -> f64 {
    if value.is_finite() { (value.clamp(0.0, 100.0) * 1_000.0).round() / 1_000.0 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_whose_range_ends_before_it_begins_is_empty() {
        let at = |text: &str| Some(text.parse().unwrap());
        for (from, to, empty) in [
            (None, None, false),
            (None, at("1214-07-31T12:15:31.8Z"), true),
            (at("-000044-03-15T00:00:00Z"), at("1970-01-01T00:00:00Z"), false),
            (at("2026-11-24T22:00:00.001Z"), at("2026-11-24T22:00:00Z"), true),
            (at("2026-11-24T22:00:00Z"), at("2026-11-24T22:00:00Z"), false),
        ] {
            let filter = Filter { from, to, ..Filter::default() };
            assert_eq!(filter.is_empty(), empty, "{filter:?}");
            assert!(empty || filter.range().0 <= filter.range().1, "{filter:?}");
        }
    }

    #[test]
    fn a_percentage_is_a_short_number_from_0_to_100() {
        for (value, kept) in
            [(-1.0, 0.0), (50.0, 50.0), (33.333_333, 33.333), (1e300, 100.0), (f64::NAN, 0.0)]
        {
            assert!((percent(value) - kept).abs() < f64::EPSILON, "{value}");
        }
    }
}
