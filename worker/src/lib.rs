//! The on-premises worker: takes jobs from AWS IoT Core over MQTT 5 and mutual TLS, runs a [`Handler`] for
//! each, and answers. It opens one outbound connection and no port.
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
//! receive → check → note in the [ledger] → PUBACK → `ACCEPTED` → run → answer until the broker has
//! it (PUBACK) → done. The PUBACK for a job never waits for the job: AWS IoT Core would send it again after
//! 30 seconds. While a handler runs, heartbeats go out from another thread, so a handler may block.
//!
//! The ledger is in memory. A worker that is killed forgets its jobs; the state machine's heartbeat timeout
//! then gives them out again, under a new token.

mod add;
mod backoff;
mod cli;
pub mod config;
mod dial;
mod doctor;
mod engine;
mod enroll;
mod explain;
mod handler;
mod identity;
pub mod ledger;
pub mod link;
mod mqtt;
mod pacing;
mod proxy;
mod tls;

pub use add::Add;
pub use cli::{Worker, main};
pub use engine::{Engine, Stopped};
pub use handler::{Handler, JobContext, Registry};
pub use mqtt::{Mqtt, Receipt};
pub use postern_types::TaskFailure;
pub use proxy::Proxy;
pub use tls::TlsError;
