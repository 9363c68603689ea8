//! An execution, as it happens: for `demo` and `run`.

use std::path::Path;
use std::time::Duration;

use aws_sdk_sfn::types::{HistoryEvent, HistoryEventType};
use jiff::Timestamp;
use postern_local::{Error, Executions, Finished, say};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, sleep};

/// Starts an execution and shows each step as it happens, with the time since the start: states as they are
/// entered and left, and where there is a worker's log, what the worker says of it.
pub(crate) async fn watch(
    follow: &Executions,
    state_machine: &str,
    input: &str,
    worker_log: Option<&Path>,
) -> Result<Finished, Error> {
    // A person may take a while.
    const TIMEOUT: Duration = Duration::from_hours(24);
    let log = || worker_log.map(|log| std::fs::read_to_string(log).unwrap_or_default()).unwrap_or_default();
    let mut seen_lines = log().lines().count();
    let mut seen_events = 0;
    let execution = follow.start(state_machine, input).await?;
    let begun = Timestamp::now();
    let mut start = None;
    let end = Instant::now() + TIMEOUT;
    loop {
        let finished = match follow.end(&execution, Duration::ZERO).await {
            Ok(finished) => Some(finished),
            Err(Error::TimedOut(..)) if Instant::now() < end => None,
            Err(error) => return Err(error),
        };
        let events = follow.history(&execution).await?;
        let log = log();
        let mut steps: Vec<Step> = events.iter().skip(seen_events).filter_map(of_history).collect();
        steps.extend(log.lines().skip(seen_lines).filter_map(|line| of_worker(line, &execution)));
        (seen_events, seen_lines) = (events.len(), log.lines().count());
        steps.sort_by_key(|step| step.at);
        for step in steps {
            let since = step.at.duration_since(*start.get_or_insert(step.at.min(begun))).as_secs_f64();
            say(format_args!("{since:+8.3} s  {:<18} {}", step.what, step.detail).to_string().trim_end());
        }
        if let Some(finished) = finished {
            show_end(&finished);
            return Ok(finished);
        }
        // The emulator answers at once; AWS bills and throttles calls.
        sleep(Duration::from_millis(if worker_log.is_some() { 20 } else { 500 })).await;
    }
}

fn show_end(finished: &Finished) {
    match (&finished.output, &finished.error) {
        (Some(output), _) => say(format_args!("\noutput\n  {output}")),
        (None, error) => say(format_args!(
            "\n{}: {}\n  {}",
            finished.status,
            error.as_deref().unwrap_or("no error name"),
            finished.cause.as_deref().unwrap_or_default()
        )),
    }
}

/// Something that has happened.
struct Step {
    at: Timestamp,
    what: &'static str,
    detail: String,
}

fn of_history(event: &HistoryEvent) -> Option<Step> {
    let at = Timestamp::from_nanosecond(event.timestamp().as_nanos()).ok()?;
    if let Some(state) = event.state_entered_event_details() {
        return Some(Step { at, what: "state entered", detail: state.name().to_owned() });
    }
    if let Some(state) = event.state_exited_event_details() {
        return Some(Step { at, what: "state left", detail: state.name().to_owned() });
    }
    let (what, detail) = match event.r#type() {
        HistoryEventType::ExecutionStarted => ("execution started", String::new()),
        HistoryEventType::TaskScheduled => called(event),
        HistoryEventType::TaskSubmitted => ("waits", waits_for(event)),
        HistoryEventType::TaskFailed => {
            let error = event.task_failed_event_details().and_then(|details| details.error());
            ("task failed", error.unwrap_or_default().to_owned())
        }
        HistoryEventType::TaskTimedOut => {
            let error = event.task_timed_out_event_details().and_then(|details| details.error());
            ("task timed out", error.unwrap_or_default().to_owned())
        }
        HistoryEventType::ExecutionSucceeded => ("succeeded", String::new()),
        HistoryEventType::ExecutionFailed => ("failed", String::new()),
        HistoryEventType::ExecutionTimedOut => ("timed out", String::new()),
        HistoryEventType::ExecutionAborted => ("aborted", String::new()),
        _ => return None,
    };
    Some(Step { at, what, detail })
}

/// A task that is called; one that will be called back takes its token along.
fn called(event: &HistoryEvent) -> (&'static str, String) {
    let details = event.task_scheduled_event_details();
    if details.is_some_and(|details| details.resource().ends_with(".waitForTaskToken")) {
        return ("dispatched", "the function has the task and its token".into());
    }
    ("task called", String::new())
}

/// What a callback task waits for: a worker with a job, or a person with a link. The links are for whoever
/// may see the execution's history, as the caller may.
fn waits_for(event: &HistoryEvent) -> String {
    let output = event.task_submitted_event_details().and_then(|details| details.output());
    let output: Value = output.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
    let payload = &output["Payload"];
    match (payload["Approve"].as_str(), payload["Reject"].as_str(), payload["JobId"].as_str()) {
        (Some(approve), Some(reject), _) => {
            format!("for a person\n    approve  {approve}\n    reject   {reject}")
        }
        (_, _, Some(job)) => format!("for the answer to job {job}"),
        _ => "for an answer".into(),
    }
}

/// A line of the worker's log.
#[derive(Deserialize)]
struct Line {
    timestamp: Timestamp,
    message: String,
    job_id: Option<String>,
    execution: Option<String>,
    said: Option<String>,
}

fn of_worker(line: &str, execution: &str) -> Option<Step> {
    let line: Line = serde_json::from_str(line).ok()?;
    let job = line.job_id?;
    let (what, detail) = match line.message.as_str() {
        "job received" if line.execution.as_deref() == Some(execution) => {
            ("accepted", format!("the worker has job {job}"))
        }
        "answer with the broker" => {
            ("result", format!("the worker's answer: {}", line.said.unwrap_or_default()))
        }
        _ => return None,
    };
    Some(Step { at: line.timestamp, what, detail })
}
