//! Lambda for one function on one machine, for tests and demonstrations.
//!
//! [`Function`] runs processes of a function's real `bootstrap`, speaks the Runtime API to them and hands them
//! events. There are two ways in: Lambda's Invoke API, which event source mappings speak, and the function's URL,
//! which makes an event of every HTTP request. Everything listens on loopback, on ports that were free, and ends
//! when it is dropped.

mod function;
mod function_url;
mod http;
mod runtime_api;
mod server;
#[cfg(test)]
mod testing;

pub use function::{Function, FunctionError};
pub use server::{Server, serve};
