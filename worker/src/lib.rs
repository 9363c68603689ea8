//! The on-premises worker: takes jobs from AWS IoT Core over MQTT 5 and mutual TLS, runs a [`Handler`] for each
//! job, and answers. It opens one outbound connection and no port.
//!
//! ```no_run
//! use postern_worker::{Handler, JobContext, Registry, TaskFailure};
//!
//! struct RowCount;
//!
//! impl Handler for RowCount {
//!     type Output = u64;
//!
//!     async fn run(&self, job: JobContext) -> Result<u64, TaskFailure> {
//!         let table: String = job.input()?;
//!         count(&table).await.map_err(|error| TaskFailure::new("Db.Unavailable", error))
//!     }
//! }
//! # async fn count(_: &str) -> Result<u64, String> { Ok(0) }
//!
//! fn main() -> std::process::ExitCode {
//!     postern_worker::main(Registry::new().on("row-count", RowCount))
//! }
//! ```
//!
//! # What happens to a job
//!
//! 1. A message arrives. It is checked and written to the [journal](Journal), a file in the state directory.
//! 2. When the entry is on the disk, the message is acknowledged (PUBACK). The acknowledgement does not wait for
//!    the job: AWS IoT Core would deliver the message again after 30 seconds.
//! 3. The job waits for one of the slots, then its handler runs. Heartbeats go out until the job ends or its
//!    deadline passes. They come from other threads, so that a handler may block.
//! 4. The answer is written to the journal's outbox, published until the broker acknowledges it, and forgotten
//!    after a day.
//!
//! # What happens after a crash
//!
//! A process that is killed loses nothing that was acknowledged. The next process sends the answers in the outbox
//! and runs the jobs that were waiting. A job that was running is treated by the [`Policy`] of its handler: it
//! fails with `Worker.Interrupted`, or runs again.
//!
//! # How an operator pauses the worker
//!
//! [`Pause`] describes the file and the signals that keep new jobs from starting.

mod add;
mod admission;
mod answers;
mod backoff;
mod cancels;
mod claim;
mod cli;
mod concurrency;
pub mod config;
mod control;
mod delivery;
mod dial;
mod doctor;
mod engine;
#[cfg(unix)]
mod enroll;
mod execution;
mod explain;
mod grants;
mod handler;
mod handlers;
pub mod health;
mod identity;
mod intake;
pub mod journal;
pub mod link;
mod mqtt;
mod pacing;
mod pause;
mod presence;
mod proxy;
mod reporting;
mod reports;
mod runs;
#[cfg(unix)]
mod service;
mod signals;
mod slots;
mod status;
mod threads;
mod tls;

pub use add::Add;
pub use claim::{ClaimOptions, ResultFile};
pub use cli::{Worker, main};
pub use engine::{Engine, Stopped};
pub use handler::{Handler, JobContext, Policy, Registry};
pub use health::Health;
pub use journal::Journal;
pub use mqtt::{Mqtt, Receipt};
pub use pause::Pause;
pub use postern_types::TaskFailure;
pub use presence::About;
pub use proxy::Proxy;
pub use threads::Threads;
pub use tls::TlsError;
