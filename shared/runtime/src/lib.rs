//! What every Postern function's `main` does: configuration from the environment ([`mod@env`]), logs ([`log`]),
//! metrics ([`metrics`]), AWS clients ([`aws`]), and errors that Step Functions can match ([`NamedError`]).
//!
//! ```no_run
//! # use postern_runtime::NamedError;
//! # #[derive(Debug, thiserror::Error)] enum Error {}
//! # impl NamedError for Error { fn name(&self) -> &'static str { "Echo.Error" } }
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), postern_runtime::Error> {
//!     postern_runtime::log::init();
//!     postern_runtime::serve(async |event, _context| Ok::<_, Error>(event)).await
//! }
//! ```

#[cfg(feature = "aws")]
pub mod aws;
pub mod env;
pub mod log;
pub mod metrics;

use std::cell::Cell;

use bytes::Bytes;
use lambda_runtime::layers::TracingLayer;
use lambda_runtime::tower::util::MapRequestLayer;
use lambda_runtime::{Diagnostic, LambdaEvent, LambdaInvocation, Runtime, service_fn};
use serde::Serialize;
use serde_json::value::RawValue;

pub use lambda_runtime::{Context, Error};

/// An error with a stable name: Lambda's `errorType`, which `Retry` and `Catch` of a state machine match.
pub trait NamedError: std::error::Error {
    /// The name, `Function.What`, such as `Dispatcher.PayloadTooLarge`. The docs list them all.
    fn name(&self) -> &'static str;
}

/// Runs `handler` for every event until Lambda ends the process.
///
/// The event reaches the handler as the text it came in, so that the handler's own types can say what is
/// wrong with it. An error is logged (its name and message, which hold no payload) and becomes a function error.
pub async fn serve<R, E>(handler: impl AsyncFn(Box<RawValue>, Context) -> Result<R, E>) -> Result<(), Error>
where
    R: Serialize,
    E: NamedError,
{
    keep_memory();
    let handler = &handler;
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Box<RawValue>>| {
        handler(event.payload, event.context).await.map_err(|error| diagnostic(&error))
    }))
    .await
}

/// [`serve`] for large events and handlers that check what they read: the event comes as the bytes that Lambda sent,
/// neither looked at nor copied.
pub async fn serve_bytes<R, E>(handler: impl AsyncFn(Bytes, Context) -> Result<R, E>) -> Result<(), Error>
where
    R: Serialize,
    E: NamedError,
{
    keep_memory();
    let handler = &handler;
    // The runtime parses every event. It is given `null` to parse; the event waits here for the handler, which runs
    // before there is another.
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

/// Lets the allocator keep the memory of one event for the next. glibc returns large blocks to the system when they are
/// freed, and gets them back page by page: for an event of megabytes, a fifth of the function's CPU time. It stops
/// doing that for blocks up to the size of the largest that was ever freed, if that is under 32 MB (`mallopt(3)`,
/// "dynamic mmap threshold"). This one is never touched, so it costs no memory.
fn keep_memory() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(31 << 20)));
}

fn diagnostic(error: &impl NamedError) -> Diagnostic {
    tracing::error!(errorType = error.name(), "{error}");
    Diagnostic { error_type: error.name().to_owned(), error_message: error.to_string() }
}
