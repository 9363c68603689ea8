//! Runs each of the three demos to its end.

use std::process::Command;

use postern_local::Project;

/// Runs a demo, which must succeed and print `OK`.
fn succeeds(program: &str, arguments: &[&str]) {
    let program = Project::here().unwrap().program(program);
    let output = Command::new(program).args(arguments).output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && stdout.contains("\nOK: "), "{stdout}");
}

#[test]
fn the_jobs_demo_succeeds() {
    succeeds("postern-demo", &[]);
}

#[test]
fn the_kafka_demo_succeeds() {
    succeeds("postern-kafka-demo", &["--records", "3000"]);
}

#[test]
fn the_grip_demo_succeeds() {
    succeeds("postern-grip-demo", &[]);
}
