//! The policy variables of the stack's worker policy: an identity can use its own tenant, group and client id only.

use postern_local::WorkerFiles;
use serde_json::json;

use crate::checks::errors::heartbeats;
use crate::checks::{Checked, expect, passed};
use crate::copies::probe;
use crate::error::Error;
use crate::site::Site;
use crate::workers;

/// A worker is refused when it names another tenant than its thing's.
pub(crate) async fn tenant(site: &Site, files: &WorkerFiles) -> Checked {
    let other = format!("{}-other", site.run);
    let arguments = ["--tenant", other.as_str(), "--check"];
    doctor(site, files, &arguments, "connection: ok", "subscription: FAILED").await?;
    Ok(passed("the broker refuses the subscription to the jobs of another tenant"))
}

/// A worker is refused when its client id is not its thing's name.
pub(crate) async fn client_id(site: &Site, files: &WorkerFiles) -> Checked {
    let other = format!("{}-somebody-else", site.run);
    let arguments = ["--client-id", other.as_str(), "--check"];
    doctor(site, files, &arguments, "certificate: ok", "connection: FAILED").await?;
    Ok(passed("the broker refuses a connection under another client id"))
}

/// A worker whose thing has no group cannot join one.
pub(crate) async fn group(site: &Site, files: &WorkerFiles) -> Checked {
    let arguments = ["--group", "strangers", "--check"];
    doctor(site, files, &arguments, "connection: ok", "subscription: FAILED").await?;
    Ok(passed("the broker refuses the shared subscription of a group that is not the thing's"))
}

/// A worker's answers do not arrive if it publishes them to the topic of another tenant. The rule would pass them on.
pub(crate) async fn answers(site: &Site, files: &WorkerFiles) -> Checked {
    let topic = format!("{}-other/to/lambda", site.run);
    let worker = workers::start(site, files, &["--answer-topic", topic.as_str()]).await?;
    let machine = probe(site, "unheard", |task, job| {
        heartbeats(task, job, 5);
        task.insert("Retry".into(), json!([]));
    })
    .await?;

    let job = json!({"tenant": site.tenant, "kind": "add", "input": {"a": 1, "b": 2}});
    let (_, finished) = site.run(&machine, &job).await?;
    let received = workers::received(&worker);
    expect(received > 0 && finished.status != "SUCCEEDED", || {
        format!("the worker received {received} jobs, and the execution is {}", finished.status)
    })?;
    Ok(passed("the broker refuses answers on the topic of another tenant"))
}

/// Runs the worker's own check of its connection, which must find both lines.
async fn doctor(
    site: &Site,
    files: &WorkerFiles,
    arguments: &[&str],
    good: &str,
    refused: &str,
) -> Result<(), Error> {
    let (status, report) = workers::ended(site, files, arguments).await?;

    let found = report.contains(good) && report.contains(refused) && status.code() == Some(1);
    let lines = report.trim().replace('\n', "; ");
    expect(found, || format!("{arguments:?} should report \"{refused}\"; it reports: {lines}"))
}
