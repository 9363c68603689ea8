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

use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
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
    let handler = &handler;
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Box<RawValue>>| {
        handler(event.payload, event.context).await.map_err(|error| {
            tracing::error!(errorType = error.name(), "{error}");
            Diagnostic { error_type: error.name().to_owned(), error_message: error.to_string() }
        })
    }))
    .await
}
