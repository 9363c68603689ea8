//! Lambda for one function on one machine, for tests and demonstrations.
//!
//! [`Function`] runs processes of a function's real `bootstrap` and gives them events through the Runtime API. Events
//! come from two APIs: Lambda's Invoke API, which event source mappings call, and the function URL, which makes an
//! event of every HTTP request. All servers listen on free ports of loopback and end when they are dropped.

mod function;
mod function_url;
mod http;
mod queue;
mod runtime_api;
mod server;
#[cfg(test)]
mod testing;

pub use function::Function;
pub use queue::FunctionError;
pub use server::{Server, serve};
