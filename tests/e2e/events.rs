//! Every sample event is what its function takes, and fails where its name says so.

use std::fs;

use postern_local::Project;
use postern_types::{Answer, DispatchRequest};
use serde_json::value::RawValue;

/// Reads every event of `function`, which must be at least `least`.
fn every_event(function: &str, least: usize, accepted: impl Fn(&RawValue) -> Result<(), String>) {
    let folder = Project::here().unwrap().file("events").join(function);
    let mut read = 0;
    for file in fs::read_dir(&folder).unwrap() {
        let path = file.unwrap().path();
        let event: Box<RawValue> = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        match accepted(&event) {
            Ok(()) => assert!(!name.starts_with("invalid"), "{name} should be refused"),
            Err(reason) => assert!(name.starts_with("invalid"), "{name}: {reason}"),
        }
        read += 1;
    }
    assert!(read >= least, "{read} events in {}", folder.display());
}

#[test]
fn the_dispatchers() {
    every_event("dispatcher", 4, |event| {
        DispatchRequest::parse(event).map(|_| ()).map_err(|error| error.to_string())
    });
}

#[test]
fn task_token_dones() {
    every_event("task-token-done", 8, |event| {
        Answer::parse(event).map(|_| ()).map_err(|error| error.to_string())
    });
}

#[test]
fn step_counters() {
    every_event("step-counter", 5, |event| {
        // The function's own tests say what a step may be; the binary says it in full.
        let step = serde_json::from_str::<serde_json::Value>(event.get()).unwrap()["Input"]["step"].as_i64();
        step.and_then(|step| step.checked_add(1)).map(|_| ()).ok_or_else(|| "no step to count".into())
    });
}
