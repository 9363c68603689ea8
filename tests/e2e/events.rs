//! Every sample event in `events/` is valid for its function, unless its name begins with `invalid`.

use std::fs;

use postern_local::Project;
use postern_types::{Answer, DispatchRequest, ProgressMessage, Tenant};
use serde_json::value::RawValue;

/// Checks every sample event of `function`. There must be at least `least`.
fn check_events(function: &str, least: usize, parse: impl Fn(&RawValue) -> Result<(), String>) {
    let folder = Project::here().unwrap().file("events").join(function);
    let mut count = 0;

    for file in fs::read_dir(&folder).unwrap() {
        let path = file.unwrap().path();
        let event: Box<RawValue> = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();

        match parse(&event) {
            Ok(()) => assert!(!name.starts_with("invalid"), "{name} should be refused"),
            Err(reason) => assert!(name.starts_with("invalid"), "{name}: {reason}"),
        }
        count += 1;
    }

    assert!(count >= least, "{count} events in {}", folder.display());
}

#[test]
fn sample_events_of_the_dispatcher_are_valid_unless_their_name_says_invalid() {
    check_events("dispatcher", 4, |event| {
        DispatchRequest::parse(event).map(|_| ()).map_err(|error| error.to_string())
    });
}

#[test]
fn sample_events_of_task_token_done_are_valid_unless_their_name_says_invalid() {
    check_events("task-token-done", 8, |event| {
        Answer::parse(event).map(|_| ()).map_err(|error| error.to_string())
    });
}

#[test]
fn sample_events_of_job_progress_are_valid_unless_their_name_says_invalid() {
    check_events("job-progress", 3, |event| {
        let message = ProgressMessage::parse(event.get().as_bytes()).map_err(|error| error.to_string())?;
        let tenant = message.tenant.ok_or("the event has no tenant")?;
        Tenant::parse(&tenant).map(|_| ()).map_err(|error| error.to_string())
    });
}

#[test]
fn sample_events_of_job_canceller_are_valid_unless_their_name_says_invalid() {
    check_events("job-canceller", 3, |event| {
        let event = serde_json::from_str::<serde_json::Value>(event.get()).unwrap();
        let detail = &event["detail"];
        let is_text = detail["executionArn"].is_string() && detail["status"].is_string();
        is_text.then_some(()).ok_or_else(|| "no execution, or no status".into())
    });
}

#[test]
fn sample_events_of_the_step_counter_are_valid_unless_their_name_says_invalid() {
    check_events("step-counter", 5, |event| {
        // The function's parser is private to its binary. Its own tests cover every invalid step.
        let step = serde_json::from_str::<serde_json::Value>(event.get()).unwrap()["Input"]["step"].as_i64();
        step.and_then(|step| step.checked_add(1)).map(|_| ()).ok_or_else(|| "no step to count".into())
    });
}
