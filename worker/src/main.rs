//! `postern-worker`: the worker with the AWS sample's one handler.

use std::process::ExitCode;

use postern_worker::{Add, Registry};

fn main() -> ExitCode {
    postern_worker::main(Registry::new().on("add", Add))
}
