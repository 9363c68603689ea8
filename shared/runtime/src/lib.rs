//! What the `main` of every Postern function does: it reads configuration from the environment ([`mod@env`]), starts
//! logs ([`log`]), makes AWS clients ([`aws`]; or `signed`, a feature, without an SDK), reads secrets, at the start and after
//! a rotation (`secrets` and `rotation`, a feature), keeps large messages in a bucket (`claim_check`, a feature), publishes to AWS IoT Core (`iot`, a feature)
//! and handles events ([`serve`]) with errors that a state machine can match ([`NamedError`]). Handlers count with
//! [`metrics`].
//!
//! The crate contains no function's logic.
//!
//! ```no_run
//! # use postern_runtime::NamedError;
//! # #[derive(Debug, thiserror::Error)] enum Error {}
//! # impl NamedError for Error { fn name(&self) -> &'static str { "Echo.Error" } }
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), postern_runtime::Error> {
//!     postern_runtime::log::init(env!("CARGO_CRATE_NAME"));
//!     postern_runtime::serve(async |event, _context| Ok::<_, Error>(event)).await
//! }
//! ```

#[cfg(feature = "aws")]
pub mod aws;
#[cfg(feature = "claim-check")]
pub mod claim_check;
pub mod env;
#[cfg(feature = "iot")]
pub mod iot;
pub mod log;
pub mod metrics;
#[cfg(feature = "claim-check")]
pub mod presign;
#[cfg(feature = "secrets")]
pub mod rotation;
#[cfg(feature = "secrets")]
pub mod secrets;
#[cfg(feature = "signed")]
pub mod signed;
#[cfg(any(feature = "claim-check", feature = "iot", feature = "signed"))]
mod transport;

use std::cell::Cell;

use bytes::Bytes;
use lambda_runtime::layers::TracingLayer;
use lambda_runtime::tower::util::MapRequestLayer;
use lambda_runtime::{Diagnostic, LambdaEvent, LambdaInvocation, Runtime, service_fn};
use serde::Serialize;
use serde_json::value::RawValue;

pub use lambda_runtime::{Context, Error};

/// An error with a stable name. The name becomes Lambda's `errorType`, which `Retry` and `Catch` of a state machine match.
pub trait NamedError: std::error::Error {
    /// The name, in the form `Function.Problem`, such as `Dispatcher.PayloadTooLarge`. A name is a contract.
    fn name(&self) -> &'static str;
}

/// Runs `handler` for every event until Lambda ends the process.
///
/// The handler gets the event as JSON text, so that its own types can name the field that is wrong. An error becomes a
/// function error; its name and its message, which contain no payload, are logged.
pub async fn serve<R, E>(handler: impl AsyncFn(Box<RawValue>, Context) -> Result<R, E>) -> Result<(), Error>
where
    R: Serialize,
    E: NamedError,
{
    let handler = &handler;
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Box<RawValue>>| {
        handler(event.payload, event.context).await.map_err(|error| diagnostic(&error))
    }))
    .await
}

/// [`serve`] for events of megabytes: the handler gets the bytes that Lambda sent, unchecked and not copied.
///
/// There are two ways because [`serve`] parses the event once to know that it is JSON. A handler of small events wants
/// that check; a handler of a Kafka batch makes it itself while it converts the records.
pub async fn serve_bytes<R, E>(handler: impl AsyncFn(Bytes, Context) -> Result<R, E>) -> Result<(), Error>
where
    R: Serialize,
    E: NamedError,
{
    keep_memory();
    let handler = &handler;

    // The runtime parses every event. It gets `null` to parse, and the event waits in this cell for the handler, which
    // runs before the next event arrives.
    let event = Cell::new(Bytes::new());
    let set_aside = MapRequestLayer::new(|mut invocation: LambdaInvocation| {
        event.set(std::mem::replace(&mut invocation.body, Bytes::from_static(b"null")));
        invocation
    });

    let handle = async |null: LambdaEvent<()>| {
        handler(event.take(), null.context).await.map_err(|error| diagnostic(&error))
    };
    Runtime::new(service_fn(handle)).layer(set_aside).layer(TracingLayer::new()).run().await
}

/// Makes the allocator keep the memory of one event for the next.
///
/// glibc returns large blocks to the system when they are freed and gets them back page by page: for an event of
/// megabytes that is a fifth of the function's CPU time. glibc keeps blocks up to the size of the largest block that was
/// ever freed, if that is below 32 MB (`mallopt(3)`, "dynamic mmap threshold"). The block that is freed here is never
/// written to, so it costs no memory.
fn keep_memory() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(31 << 20)));
}

fn diagnostic(error: &impl NamedError) -> Diagnostic {
    tracing::error!(errorType = error.name(), "{error}");
    Diagnostic { error_type: error.name().to_owned(), error_message: error.to_string() }
}
