//! `postern-local`: `template.yml` on this machine, to try things on. People call it through `make`.

mod commands;
mod input;
mod note;

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
    /// Start the local stack and leave it running.
    Up,
    /// Start an execution on the local stack or in AWS, and follow it.
    Run(commands::Run),
    /// Stop what `up` started.
    Down,
}

#[tokio::main]
async fn main() -> ExitCode {
    verdict(match CommandLine::parse().command {
        Command::Up => commands::up().await,
        Command::Run(run) => run.run().await,
        Command::Down => commands::down(),
    })
}
