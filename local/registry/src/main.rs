//! The binary `postern-schema-registry`: serves an empty registry until it is stopped.

use std::net::SocketAddr;

use clap::Parser;
use postern_schema_registry::Registry;

#[derive(Debug, Parser)]
#[command(about = "A stand-in for a schema registry with Confluent's API, with its schemas in memory.")]
struct Options {
    /// The address to listen on.
    #[arg(long, default_value = "127.0.0.1:8081")]
    address: SocketAddr,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    Registry::start(Options::parse().address).await?;
    std::future::pending().await
}
