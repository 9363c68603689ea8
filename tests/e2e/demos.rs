//! The three demonstrations end with `OK`.

use std::process::Command;

use postern_local::Project;

fn succeeds(program: &str, arguments: &[&str]) {
    let program = Project::here().unwrap().program(program);
    let output = Command::new(program).args(arguments).output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && stdout.contains("\nOK: "), "{stdout}");
}

#[test]
fn jobs() {
    succeeds("postern-demo", &[]);
}

#[test]
fn kafka() {
    succeeds("postern-kafka-demo", &["--records", "3000"]);
}

#[test]
fn grip() {
    succeeds("postern-grip-demo", &[]);
}
