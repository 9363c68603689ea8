//! What the attempts of one task have in common: the idempotency key depends on `EnteredTime`.

use std::time::Duration;

use aws_sdk_sfn::types::{HistoryEvent, HistoryEventType};
use serde_json::{Value, json};

use crate::checks::errors::retry_once;
use crate::checks::{Checked, expect, passed};
use crate::copies::probe;
use crate::error::Error;
use crate::report::Verdict;
use crate::site::Site;

/// How long the second attempt after a redrive may take to be scheduled.
const TIMEOUT: Duration = Duration::from_mins(1);

/// A retry keeps `EnteredTime`, and with it the idempotency key that the worker sees.
pub(crate) async fn retry(site: &Site) -> Checked {
    let machine = probe(site, "retry", |task, _| retry_once(task, "Verify.Again")).await?;
    let job = json!({"tenant": site.tenant, "kind": "verify-again", "input": {}});
    let (execution, finished) = site.run(&machine, &job).await?;
    expect(finished.status == "SUCCEEDED", || format!("expected a success, found {finished:?}"))?;

    let history = site.executions.history(&execution).await?;
    let entered = entered_times(&history);
    let [first, second] = entered.as_slice() else {
        return Err(Error::unexpected(format!("expected two attempts, found {}", entered.len())));
    };
    expect(first == second, || {
        format!("EnteredTime is {first} in the first attempt and {second} in the retry")
    })?;

    let failures = history.iter().filter_map(|event| event.task_failed_event_details()?.cause());
    let first: Vec<&str> = failures.collect();
    let output: Value =
        serde_json::from_str(finished.output.as_deref().unwrap_or_default()).unwrap_or_default();
    let second = output["lambdaOutput"]["result"].as_str().unwrap_or_default();
    expect(first == [second], || format!("the idempotency key was {first:?}, and {second:?} in the retry"))?;
    Ok(passed("EnteredTime and the idempotency key stay the same in a retry"))
}

/// Whether a redrive keeps `EnteredTime`. If it does not, a redriven job has a new idempotency key.
pub(crate) async fn redrive(site: &Site) -> Checked {
    if !site.is_aws() {
        return Ok(Verdict::UnknownHere("the local stack has no RedriveExecution".into()));
    }

    let machine = probe(site, "redrive", |task, _| {
        task.remove("Retry");
        task.remove("Catch");
    })
    .await?;
    let job = json!({"tenant": site.tenant, "kind": "verify-again", "input": {}});
    let (execution, finished) = site.run(&machine, &job).await?;
    expect(finished.error.as_deref() == Some("Verify.Again"), || format!("found {finished:?}"))?;

    site.sfn.redrive_execution().execution_arn(&execution).send().await?;
    site.executions.happened(&execution, &HistoryEventType::TaskScheduled, 2, TIMEOUT).await?;
    site.end(&execution).await?;
    let entered = entered_times(&site.executions.history(&execution).await?);
    match entered.as_slice() {
        [first, second] if first == second => Ok(passed("EnteredTime stays the same across a redrive")),
        other => Ok(Verdict::Observed(format!("EnteredTime changes with a redrive: {}", other.join(", ")))),
    }
}

/// `EnteredTime` as each attempt passed it to the dispatcher.
fn entered_times(history: &[HistoryEvent]) -> Vec<String> {
    let parameters =
        history.iter().filter_map(|event| Some(event.task_scheduled_event_details()?.parameters()));
    let parameters = parameters.filter_map(|text| serde_json::from_str::<Value>(text).ok());
    parameters.filter_map(|value| Some(value["Payload"]["EnteredTime"].as_str()?.to_owned())).collect()
}
