//! `postern-verify`: checks a deployed stack. People call it through `make verify`.

use std::process::ExitCode;

use clap::Parser as _;
use postern_local::verdict;
use postern_verify::{Options, verify};

#[tokio::main]
async fn main() -> ExitCode {
    // Boxed: the future of a whole run is too large for the stack frame of `main`.
    verdict(Box::pin(verify(Options::parse())).await)
}
