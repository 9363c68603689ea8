//! A real Pushpin in front of a real program, on one machine, for tests and the demonstration.
//!
//! [`Pushpin`] starts the proxy and routes its requests to servers. [`serve`] puts a handler on a loopback port.
//! [`Function`] is such a server whose handler is the `bootstrap` of a Lambda function: it passes HTTP requests on as a
//! function URL does. The environment variable `POSTERN_PUSHPIN` names another program than the `pushpin` in the PATH,
//! and [`Version`] is that of the program. All of them stop when they are dropped. GRIP itself is in the crate `grip`.

mod client;
mod pushpin;
mod version;

pub use client::{Answer, TIMEOUT, get, post};
pub use postern_lambda::{Function, Server, serve};
pub use pushpin::{Left, Ports, Pushpin, PushpinError, Route};
pub use version::Version;
