//! What a run of the verification is told on its command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// The command line of `postern-verify`.
#[derive(Debug, Clone, Parser)]
#[command(about = "Checks a deployed stack, with a tenant and worker identities of its own, and cleans up.")]
pub struct Options {
    /// The stack's name.
    #[arg(long, default_value = "postern")]
    pub stack: String,
    /// The local stack that `make up` started, or a stack in AWS, with the shell's credentials and region.
    #[arg(long, value_enum, default_value_t = Target::Local)]
    pub target: Target,
    /// The file for a report in Markdown.
    #[arg(long)]
    pub report: Option<PathBuf>,
    /// The number of jobs from which the latencies are computed.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(2..=1000))]
    pub jobs: u16,
    /// The tenant to use when the stack handles one tenant only. No other worker of that tenant may be at work.
    #[arg(long)]
    pub tenant: Option<String>,
    /// The URL of the local stack.
    #[arg(long, default_value = "http://127.0.0.1:4566")]
    pub endpoint: String,
    /// The MQTT broker of the local stack.
    #[arg(long, default_value = "localhost:8883")]
    pub broker: String,
    /// How long to wait for a dead letter. AWS Lambda retries after one and two minutes before it gives up.
    #[arg(long, default_value_t = 360)]
    pub dead_letter_seconds: u64,
}

/// Where the stack is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Target {
    /// The emulator on this machine.
    Local,
    /// An AWS account.
    Aws,
}
