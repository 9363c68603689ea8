//! The messages between a state machine, Postern's functions and a worker. The crate contains no AWS SDK, no async
//! runtime and no I/O.
//!
//! ```text
//! state machine ──DispatchRequest──▶ dispatcher ──JobMessage──▶ {tenant}/to/worker ──▶ worker
//! state machine ◀──SendTask*── task-token-done ◀──AnswerMessage── {tenant}/to/lambda ◀── worker
//!
//! worker ──ProgressMessage──▶ {tenant}/progress        worker ──Presence──▶ {tenant}/workers/{clientId}
//! worker ◀──CancelMessage── {tenant}/to/worker/cancel  worker ◀──Command── {tenant}/to/worker/{clientId}
//! ```
//!
//! The messages are those of the AWS sample *Invoking on-premises resources interactively using AWS Step
//! Functions and MQTT*. The sample's worker understands a [`JobMessage`], and [`Answer::parse`] understands the sample's
//! worker. Every field that Postern adds is optional to the other side.
//!
//! JSON values that belong to the user (a job's input, its result) stay the text that arrived
//! ([`serde_json::value::RawValue`]). Numbers keep their digits and objects keep the order of their keys through every hop.

mod answer;
mod cancel;
mod claim;
mod command;
mod digest;
pub mod fields;
mod idempotency;
mod job;
pub mod limits;
mod message;
pub mod millis;
mod presence;
mod progress;
mod request;
mod sha256;
mod token;
mod topic;

pub use answer::{Answer, AnswerMessage, InvalidAnswer, Outcome, TaskFailure};
pub use cancel::CancelMessage;
pub use claim::{InputRef, ObjectRef, ResultRef, UploadRequest, input_key, result_key};
pub use command::Command;
pub use fields::{InvalidField, json_kind};
pub use job::{InvalidJob, JobMessage};
pub use message::InvalidMessage;
pub use presence::{Presence, WorkerState};
pub use progress::{JobProgress, ProgressMessage};
pub use request::{DispatchRequest, InvalidRequest, JobOptions};
pub use sha256::Sha256Sum;
pub use token::{InvalidJobId, InvalidToken, JobId, TaskToken};
pub use topic::{InvalidTenant, InvalidTopic, Tenant, Topic, TopicTemplate};
