//! The table of jobs: one item a job, with its state, its progress and the tail of its log.
//!
//! The dispatcher, `task-token-done`, `job-progress`, `job-canceller` and `jobs-api` share one DynamoDB table through the
//! trait [`Jobs`]. [`DynamoJobs`] implements it with signed requests of its own instead of `aws-sdk-dynamodb`: the SDK's
//! client would add about a megabyte to the dispatcher and to `task-token-done`, whose sizes are limited for the sake of
//! their cold starts. `MemoryJobs` (feature `memory`) is the table of unit tests.
//!
//! Messages about a job arrive late, twice and out of order. Every write is therefore conditional:
//!
//! - A state is written only over a state of a lower [`Rank`].
//! - Progress is written only over older progress, only to a job that exists, and touches neither state nor rank.
//!
//! The key is `Tenant` and `JobId`. A second item for each idempotency key, with the `JobId` `key#{IdempotencyKey}`, keeps
//! the ids of the last attempts ([`Jobs::attempts`]), whose items have the progress for the next attempt
//! ([`Jobs::resume`]). A job never depends on the table: functions on a job's way call it by [`best_effort`]. Inputs,
//! results and task tokens are never in the table.

mod attempts;
mod attributes;
mod cancel;
mod cursor;
mod dynamo;
mod effort;
mod error;
#[cfg(any(test, feature = "memory"))]
mod memory;
mod model;
mod state;
mod stream;
mod table;
mod tail;
mod time;

pub use attempts::ATTEMPTS;
pub use cancel::{Cancel, cancel_expiry};
pub use cursor::{Cursor, InvalidCursor};
pub use dynamo::DynamoJobs;
pub use effort::best_effort;
pub use error::Error;
#[cfg(any(test, feature = "memory"))]
pub use memory::MemoryJobs;
pub use model::{End, Filter, JobItem, NewJob, OpenJob, Page, Progress};
pub use state::{Rank, State};
pub use stream::{Change, changes};
pub use table::Jobs;
pub use tail::{LOG_BYTES, LOG_LINES};
pub use time::time_text;
