//! Tests that the program has all options of the worker, under its own name and version.

use std::process::{Command, Output};

fn worker_handler(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_worker-handler")).args(arguments).output().expect("the program starts")
}

#[test]
fn the_version_is_that_of_the_example() {
    let output = worker_handler(&["--version"]);
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        format!("worker-handler {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn the_options_are_those_of_the_worker() {
    let help = String::from_utf8(worker_handler(&["--help"]).stdout).unwrap();
    for option in ["--endpoint", "--client-id", "--state-dir", "--group"] {
        assert!(help.contains(option), "{help}");
    }
}

#[test]
fn an_incomplete_configuration_names_the_program_and_what_is_missing() {
    let output = worker_handler(&["--client-id", "w1"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(error.starts_with("worker-handler: ") && error.contains("is missing"), "{error}");
}
