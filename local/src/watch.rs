//! Prints an execution as it happens: its states, and what the worker's log says about its jobs.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use aws_sdk_sfn::types::{HistoryEvent, HistoryEventType, MapIterationEventDetails};
use jiff::Timestamp;
use postern_jobs::DynamoJobs;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::error::Error;
use crate::executions::{Executions, Finished};
use crate::job_view::{JobView, News};
use crate::terminal::{say, say_again};

/// How long an execution may run: a person who approves may take a while.
const TIMEOUT: Duration = Duration::from_hours(24);

/// Starts an execution and prints each step with the seconds since the start. With a worker's log, the steps of the
/// worker are printed too; with the table of jobs, their progress and their logs.
pub async fn watch(
    executions: &Executions,
    state_machine: &str,
    input: &str,
    worker_log: Option<&Path>,
    jobs: Option<DynamoJobs>,
) -> Result<Finished, Error> {
    let execution = executions.start(state_machine, input).await?;
    follow(executions, &execution, worker_log, jobs).await
}

/// [`watch`] for an execution that was started already.
pub async fn follow(
    executions: &Executions,
    execution: &str,
    worker_log: Option<&Path>,
    jobs: Option<DynamoJobs>,
) -> Result<Finished, Error> {
    let read_log =
        || worker_log.map(|log| std::fs::read_to_string(log).unwrap_or_default()).unwrap_or_default();
    let mut seen_lines = 0;
    let mut steps = Steps { jobs: jobs.map(JobView::new), ..Steps::default() };
    let end = Instant::now() + TIMEOUT;

    loop {
        let finished = match executions.end(execution, Duration::ZERO).await {
            Ok(finished) => Some(finished),
            Err(Error::TimedOut(..)) if Instant::now() < end => None,
            Err(error) => return Err(error),
        };

        let events = executions.history(execution).await?;
        steps.add_history(&events);
        let log = read_log();
        log.lines().skip(seen_lines).for_each(|line| steps.add_worker(line, execution));
        seen_lines = log.lines().count();
        steps.add_jobs(finished.is_some()).await;
        steps.print(finished.is_some());

        if let Some(finished) = finished {
            print_end(&finished);
            return Ok(finished);
        }

        // The emulator answers at once and for free; AWS bills and throttles calls.
        sleep(Duration::from_millis(if worker_log.is_some() { 20 } else { 500 })).await;
    }
}

fn print_end(finished: &Finished) {
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

/// A line of the output.
struct Step {
    at: Timestamp,
    what: &'static str,
    detail: String,
    /// The job whose progress bar this is.
    bar_of: Option<String>,
}

/// The steps that are not printed yet, and what is known about the jobs of the execution.
#[derive(Default)]
struct Steps {
    seen_events: usize,
    waiting: Vec<Step>,
    /// Results of jobs whose "waits" step has not come yet. A fast worker can answer before the dispatcher returns.
    results: HashMap<String, Step>,
    /// The jobs of this execution that wait or have waited for an answer, with the time of that event.
    submitted: HashMap<String, Timestamp>,
    start: Option<Timestamp>,
    /// The table of jobs, if it can be read.
    jobs: Option<JobView>,
    /// The job whose progress is the last line of the output.
    last_bar: Option<String>,
}

impl Steps {
    fn add_history(&mut self, events: &[HistoryEvent]) {
        let by_id: HashMap<i64, &HistoryEvent> = events.iter().map(|event| (event.id(), event)).collect();

        for event in events.iter().skip(self.seen_events) {
            let Ok(at) = Timestamp::from_nanosecond(event.timestamp().as_nanos()) else { continue };
            if let Some(job) = job_of(event) {
                if let Some(jobs) = &mut self.jobs {
                    jobs.add(&job, payload(event)["Topic"].as_str().unwrap_or_default());
                }
                self.submitted.insert(job, at);
            }
            if let Some((what, detail)) = of_history(event, &by_id) {
                let item = item_of(event, &by_id).map(|item| format!("  (item {item})")).unwrap_or_default();
                self.waiting.push(Step { at, what, detail: with_item(&detail, &item), bar_of: None });
            }
        }
        self.seen_events = events.len();
    }

    fn add_worker(&mut self, line: &str, execution: &str) {
        let Ok(line) = serde_json::from_str::<Line>(line) else { return };
        let Some(job) = line.job_id else { return };
        match line.message.as_str() {
            "job received" if line.execution.as_deref() == Some(execution) => {
                let detail = format!("the worker has job {job}");
                self.waiting.push(Step { at: line.timestamp, what: "accepted", detail, bar_of: None });
            }
            "answer delivered" => {
                let detail = format!("{} for job {job}", line.answer.as_deref().unwrap_or("answer"));
                self.results.insert(job, Step { at: line.timestamp, what: "result", detail, bar_of: None });
            }
            _ => {}
        }
    }

    /// Adds the progress and the log lines of jobs.
    async fn add_jobs(&mut self, is_last: bool) {
        let Some(jobs) = &mut self.jobs else { return };
        let at = Timestamp::now();
        for (job, news) in jobs.news(is_last).await {
            let (what, detail, bar_of) = match news {
                News::Log(line) => ("log", line, None),
                News::Progress(bar) => ("progress", bar, Some(job)),
            };
            self.waiting.push(Step { at, what, detail, bar_of });
        }
    }

    /// Prints the steps in the order of their times, each result after the event that waits for it.
    fn print(&mut self, finished: bool) {
        let answered: Vec<String> =
            self.results.keys().filter(|job| self.submitted.contains_key(*job)).cloned().collect();
        for job in answered {
            if let Some(mut step) = self.results.remove(&job) {
                step.at = step.at.max(self.submitted[&job]);
                self.waiting.push(step);
            }
        }
        if finished {
            // Other executions' results.
            self.results.clear();
        }

        // The sort keeps the order of steps with equal times.
        self.waiting.sort_by_key(|step| step.at);
        for step in self.waiting.drain(..) {
            let since = step.at.duration_since(*self.start.get_or_insert(step.at)).as_secs_f64();
            let line = format!("{since:+8.3} s  {:<18} {}", step.what, step.detail);
            // The bar of one job moves in its place.
            if step.bar_of.is_some() && step.bar_of == self.last_bar {
                say_again(line.trim_end());
            } else {
                say(line.trim_end());
            }
            self.last_bar = step.bar_of;
        }
    }
}

/// Puts the item's name at the end of a detail's first line.
fn with_item(detail: &str, item: &str) -> String {
    match detail.split_once('\n') {
        Some((first, rest)) => format!("{first}{item}\n{rest}"),
        None => format!("{detail}{item}"),
    }
}

/// The step of a history event: its name and detail.
fn of_history(event: &HistoryEvent, by_id: &HashMap<i64, &HistoryEvent>) -> Option<(&'static str, String)> {
    if let Some(state) = event.state_entered_event_details() {
        return Some(("state entered", state.name().to_owned()));
    }
    if let Some(state) = event.state_exited_event_details() {
        return Some(("state left", state.name().to_owned()));
    }
    Some(match event.r#type() {
        HistoryEventType::ExecutionStarted => ("execution started", String::new()),
        HistoryEventType::TaskScheduled => called(event),
        HistoryEventType::TaskSubmitted => ("waits", waits_for(event)),
        HistoryEventType::TaskFailed => {
            let error = event.task_failed_event_details().and_then(|details| details.error());
            ("task failed", of_job(error, event, by_id))
        }
        HistoryEventType::TaskTimedOut => {
            let error = event.task_timed_out_event_details().and_then(|details| details.error());
            ("task timed out", of_job(error, event, by_id))
        }
        HistoryEventType::ExecutionSucceeded => ("succeeded", String::new()),
        HistoryEventType::ExecutionFailed => ("failed", String::new()),
        HistoryEventType::ExecutionTimedOut => ("timed out", String::new()),
        HistoryEventType::ExecutionAborted => ("aborted", String::new()),
        _ => return None,
    })
}

/// An error name, with the job of the task that failed if it was submitted.
fn of_job(error: Option<&str>, event: &HistoryEvent, by_id: &HashMap<i64, &HistoryEvent>) -> String {
    let error = error.unwrap_or("no error name");
    // A state that was entered earlier is the beginning of another task, with another job.
    let job = earlier(event, by_id)
        .take_while(|event| event.state_entered_event_details().is_none())
        .find_map(job_of);
    job.map_or_else(|| error.to_owned(), |job| format!("{error} for job {job}"))
}

/// The events that led to an event, the latest first.
fn earlier<'a>(
    event: &'a HistoryEvent,
    by_id: &'a HashMap<i64, &'a HistoryEvent>,
) -> impl Iterator<Item = &'a HistoryEvent> {
    let before = |event: &&'a HistoryEvent| by_id.get(&event.previous_event_id()).copied();
    std::iter::successors(before(&event), before)
}

/// The index of the Map item that an event belongs to.
fn item_of(event: &HistoryEvent, by_id: &HashMap<i64, &HistoryEvent>) -> Option<i32> {
    let mut inner_maps = 0;
    for event in std::iter::once(event).chain(earlier(event, by_id)) {
        match event.r#type() {
            // The events after a Map state follow the end of one of its iterations.
            HistoryEventType::MapStateExited
            | HistoryEventType::MapStateSucceeded
            | HistoryEventType::MapStateFailed => inner_maps = 1,
            HistoryEventType::MapStateEntered => inner_maps = 0,
            HistoryEventType::MapIterationStarted if inner_maps == 0 => {
                return event.map_iteration_started_event_details().map(MapIterationEventDetails::index);
            }
            _ => {}
        }
    }
    None
}

/// The step of a task that is called. A callback task passes its token to the function.
fn called(event: &HistoryEvent) -> (&'static str, String) {
    let details = event.task_scheduled_event_details();
    if details.is_some_and(|details| details.resource().ends_with(".waitForTaskToken")) {
        return ("dispatched", "the function has the task and its token".into());
    }
    ("task called", String::new())
}

/// The payload that the dispatching function returned for a callback task.
fn payload(event: &HistoryEvent) -> Value {
    let output = event.task_submitted_event_details().and_then(|details| details.output());
    let output: Value = output.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
    output["Payload"].clone()
}

/// The id of the job that a callback task waits for.
fn job_of(event: &HistoryEvent) -> Option<String> {
    payload(event)["JobId"].as_str().map(str::to_owned)
}

/// What a callback task waits for: a worker with a job, or a person with a link. Everyone who may read the history
/// may see the links. Each link has a line of its own, so that a terminal opens the whole link and no space breaks it.
fn waits_for(event: &HistoryEvent) -> String {
    let payload = payload(event);
    match (payload["Approve"].as_str(), payload["Reject"].as_str(), payload["JobId"].as_str()) {
        (Some(approve), Some(reject), _) => {
            format!(
                "for a person, who opens one of these links\n\n  to approve:\n{approve}\n\n  to reject:\n{reject}\n"
            )
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
    answer: Option<String>,
}

#[cfg(test)]
mod tests;
