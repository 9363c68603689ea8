//! What crosses a wire in Postern, and nothing else: no AWS SDK, no async runtime, no I/O.
//!
//! ```text
//! state machine ──DispatchRequest──▶ dispatcher ──JobMessage──▶ {tenant}/to/worker ──▶ worker
//! state machine ◀──SendTask*── task-token-done ◀──AnswerMessage── {tenant}/to/lambda ◀── worker
//! ```
//!
//! The messages are those of the AWS sample *Invoking on-premises resources interactively using AWS Step
//! Functions and MQTT*: its worker understands a [`JobMessage`], and [`Answer`] understands what its
//! worker sends. Everything Postern adds is optional to the other side.
//!
//! JSON values that belong to the user (a job's input, its result) are kept as the text they came in
//! ([`serde_json::value::RawValue`]): numbers keep their digits and objects keep their key order through
//! every hop.

mod answer;
mod fields;
mod job;
pub mod limits;
mod token;
mod topic;

pub use answer::{Answer, AnswerMessage, InvalidAnswer, Outcome, Status, TaskFailure};
pub use fields::{InvalidField, json_kind};
pub use job::{DispatchRequest, InvalidJob, InvalidRequest, JobMessage, JobOptions};
pub use token::{InvalidToken, JobId, TaskToken};
pub use topic::{InvalidTenant, InvalidTopic, Tenant, Topic, TopicTemplate};

use serde::Deserialize as _;

/// Tells a field that is absent (`None`) from one that is `null` (`Some("null")`); serde's own `Option`
/// takes both for `None`, and a job whose result is `null` has succeeded.
fn present<'de, D>(field: D) -> Result<Option<Box<serde_json::value::RawValue>>, D::Error>
where
    D: serde::Deserializer<'de>,
{
    Box::<serde_json::value::RawValue>::deserialize(field).map(Some)
}
