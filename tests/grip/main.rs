//! The GRIP library and `grip-echo` behind a real Pushpin.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod echo;
mod library;
