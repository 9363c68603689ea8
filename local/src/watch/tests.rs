use aws_sdk_sfn::primitives::DateTime;
use aws_sdk_sfn::types::{TaskFailedEventDetails, TaskSubmittedEventDetails};

use super::*;

const EXECUTION: &str = "arn:execution";

fn event(
    id: i64,
    previous: i64,
    kind: HistoryEventType,
) -> aws_sdk_sfn::types::builders::HistoryEventBuilder {
    HistoryEvent::builder()
        .id(id)
        .previous_event_id(previous)
        .r#type(kind)
        .timestamp(DateTime::from_millis(id * 1_000))
}

fn submitted(id: i64, previous: i64, job: &str) -> HistoryEvent {
    let output = format!(r#"{{"Payload":{{"JobId":"{job}"}}}}"#);
    let details =
        TaskSubmittedEventDetails::builder().resource_type("lambda").resource("invoke").output(output);
    event(id, previous, HistoryEventType::TaskSubmitted)
        .task_submitted_event_details(details.build().unwrap())
        .build()
        .unwrap()
}

fn lines(steps: &Steps) -> Vec<String> {
    steps.waiting.iter().map(|step| format!("{} {}", step.what, step.detail)).collect()
}

#[test]
fn a_failed_task_names_its_job_and_its_item() {
    let started = event(1, 0, HistoryEventType::MapIterationStarted)
        .map_iteration_started_event_details(MapIterationEventDetails::builder().name("Map").index(2).build())
        .build()
        .unwrap();
    let details =
        TaskFailedEventDetails::builder().resource_type("lambda").resource("invoke").error("Add.NotANumber");
    let failed = event(3, 2, HistoryEventType::TaskFailed)
        .task_failed_event_details(details.build().unwrap())
        .build()
        .unwrap();

    let mut steps = Steps::default();
    steps.add_history(&[started, submitted(2, 1, "j1"), failed]);

    assert_eq!(
        lines(&steps),
        ["waits for the answer to job j1  (item 2)", "task failed Add.NotANumber for job j1  (item 2)"]
    );
}

#[test]
fn a_result_that_is_logged_first_is_printed_after_the_wait_for_it() {
    let result = r#"{"timestamp":"1970-01-01T00:00:01Z","message":"answer delivered","job_id":"j1","answer":"result"}"#;
    let mut steps = Steps::default();

    steps.add_worker(result, EXECUTION);
    steps.print(false);
    assert_eq!(steps.results.len(), 1, "the result is held back until the wait is known");

    steps.add_history(&[submitted(2, 1, "j1")]);
    let Some(held) = steps.results.get("j1") else { panic!("the result is still there") };
    assert_eq!(held.detail, "result for job j1");
    steps.print(false);
    assert!(steps.results.is_empty() && steps.waiting.is_empty(), "both are printed");
}

#[test]
fn an_item_goes_on_the_first_line_of_a_detail() {
    assert_eq!(with_item("a\nb", " (item 1)"), "a (item 1)\nb");
    assert_eq!(with_item("a", ""), "a");
}
