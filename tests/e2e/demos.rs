//! The demonstrations end as they should.

use std::process::Command;

use postern_local::Project;

fn ends_well(program: &str, arguments: &[&str]) {
    let program = Project::here().unwrap().program(program);
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("\nOK: "), "{said}");
}

#[test]
fn jobs() {
    ends_well("postern-demo", &[]);
}

#[test]
fn kafka() {
    ends_well("postern-kafka-demo", &["--records", "3000"]);
}

#[test]
fn grip() {
    ends_well("postern-grip-demo", &[]);
}
