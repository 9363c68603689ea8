//! `postern-local`: the demo, and the local stack to try things on. `make` is how people call it.

mod commands;
mod demo;
mod watch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use postern_local::verdict;

#[derive(Parser)]
#[command(about = "template.yml on this machine: no AWS account, no Docker.")]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start everything, run one job, show what happens, stop everything.
    Demo,
    /// Start everything and leave it running.
    Up,
    /// Start an execution on what `up` started, or in the cloud, and follow it.
    Run(commands::Run),
    /// Stop what `up` started.
    Down,
}

/// The input of the AWS sample.
const SAMPLE_INPUT: &str = r#"{"a":15,"b":42}"#;
/// What it comes back as.
const SAMPLE_OUTPUT: &str = r#"{"a":15,"b":42,"lambdaOutput":{"result":57}}"#;

#[tokio::main]
async fn main() -> ExitCode {
    verdict(match CommandLine::parse().command {
        Command::Demo => demo::demo().await,
        Command::Up => commands::up().await,
        Command::Run(run) => run.run().await,
        Command::Down => commands::down(),
    })
}
