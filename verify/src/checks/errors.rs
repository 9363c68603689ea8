//! Heartbeats keep a job alive, and `Retry` and `Catch` meet the error names that the machines name.

use aws_sdk_sfn::types::HistoryEventType;
use serde_json::{Map, Value, json};

use crate::checks::{Checked, expect, passed};
use crate::copies::probe;
use crate::error::Error;
use crate::site::Site;

/// A job that runs longer than its heartbeat timeout succeeds.
pub(crate) async fn long_job(site: &Site) -> Checked {
    let machine = probe(site, "long", |task, job| heartbeats(task, job, 9)).await?;
    let job = json!({"tenant": site.tenant, "kind": "verify-hold", "input": {"seconds": 15}});

    let (execution, finished) = site.run(&machine, &job).await?;
    expect(finished.status == "SUCCEEDED", || format!("expected a success, found {finished:?}"))?;
    let attempts = scheduled(site, &execution).await?;
    expect(attempts == 1, || {
        format!("the job needed {attempts} attempts; heartbeats did not keep it alive")
    })?;
    Ok(passed("a job of 15 s with HeartbeatSeconds 9 succeeds in its first attempt"))
}

/// A job without a worker fails with `States.HeartbeatTimeout`, which `Retry` and `Catch` match by that name.
pub(crate) async fn heartbeat_timeout(site: &Site) -> Checked {
    let machine = probe(site, "silent", |task, job| {
        heartbeats(task, job, 3);
        retry_once(task, "States.HeartbeatTimeout");
    })
    .await?;
    named(site, &machine, "States.HeartbeatTimeout", &format!("{}-nobody", site.run), "add").await
}

/// A job that takes too long fails with `States.Timeout`, although its worker sends heartbeats.
pub(crate) async fn timeout(site: &Site) -> Checked {
    let machine = probe(site, "late", |task, job| {
        task.remove("HeartbeatSeconds");
        job.remove("HeartbeatSeconds");
        task.insert("TimeoutSeconds".into(), json!(3));
        job.insert("TimeoutSeconds".into(), json!(3));
        retry_once(task, "States.Timeout");
    })
    .await?;
    named(site, &machine, "States.Timeout", &site.tenant, "verify-hold").await
}

/// Runs a job that times out. Its error must have the name `error`, and the rule that names it must retry once.
async fn named(site: &Site, machine: &str, error: &str, tenant: &str, kind: &str) -> Checked {
    let job = json!({"tenant": tenant, "kind": kind, "input": {"seconds": 60}});
    let (execution, finished) = site.run(machine, &job).await?;

    let found = finished.error.as_deref().unwrap_or_default();
    expect(found == error, || format!("Catch meets the error {found:?}, not {error}"))?;
    let attempts = scheduled(site, &execution).await?;
    expect(attempts == 2, || {
        format!("a Retry that names {error} should make 2 attempts, and there were {attempts}")
    })?;
    Ok(passed(format!("Retry and Catch match {error}")))
}

/// The number of attempts of an execution with one task.
async fn scheduled(site: &Site, execution: &str) -> Result<usize, Error> {
    let history = site.executions.history(execution).await?;
    Ok(history.iter().filter(|event| *event.r#type() == HistoryEventType::TaskScheduled).count())
}

/// Sets the heartbeat timeout of a task, and tells the worker.
pub(crate) fn heartbeats(task: &mut Map<String, Value>, job: &mut Map<String, Value>, seconds: u64) {
    task.insert("HeartbeatSeconds".into(), json!(seconds));
    job.insert("HeartbeatSeconds".into(), json!(seconds));
}

/// Replaces the task's rules by one that retries `error` once.
pub(crate) fn retry_once(task: &mut Map<String, Value>, error: &str) {
    let rule = json!({"ErrorEquals": [error], "IntervalSeconds": 1, "MaxAttempts": 1});
    task.insert("Retry".into(), json!([rule]));
}
