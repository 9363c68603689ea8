//! What Postern's tests share: an HTTP server on loopback ([`LoopbackServer`]), a stand-in for an AWS service
//! ([`StubServer`]), AWS client configuration for either ([`config_for`]) and a free port ([`free_port`]).
//!
//! The crate is a dev-dependency, and a dependency of the local stack. No deployed function contains it.
//! Its functions panic where a test could not go on.

mod aws;
mod server;
mod stub;

use std::io;
use std::net::{Ipv4Addr, TcpListener};

pub use aws::config_for;
pub use server::LoopbackServer;
pub use stub::{RecordedRequest, StubServer};

/// A TCP port of 127.0.0.1 on which no process listens.
///
/// Another process can take the port before the caller binds it. Let the operating system choose the port (port 0)
/// wherever the listener can report which one it got.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
