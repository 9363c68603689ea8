//! A real Pushpin in front of a Lambda function's real binary, on one machine: for tests and the demo.
//!
//! [`serve`] puts a handler on a loopback port. [`Function`] is such a server whose handler is a Lambda
//! function: it starts the function's `bootstrap`, hands it every HTTP request as a function URL would, and
//! knows nothing of GRIP. [`Pushpin`] starts the proxy and routes it to a server. Everything ends when dropped.

mod client;
mod pushpin;

pub use client::{Answer, get, post};
pub use postern_lambda::{Function, Server, serve};
pub use pushpin::{Ports, Pushpin, PushpinError, Route};

use std::time::Duration;

/// Longest wait for anything on a busy machine. Nothing waits that long that works.
pub const TIMEOUT: Duration = Duration::from_mins(1);
