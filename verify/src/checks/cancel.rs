//! A stopped execution cancels its job: EventBridge, the canceller, the broker and the worker pass it on.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::checks::{Checked, passed};
use crate::copies::probe;
use crate::error::Error;
use crate::site::Site;

/// How long the job may take to begin, and how long the handler may take to hear of the stop. It is longer than the
/// heartbeats of the job, which would make a lost cancellation good.
const TIMEOUT: Duration = Duration::from_mins(1);

/// Stops an execution while its handler runs, and waits until the handler has heard of it.
pub(crate) async fn stop(site: &Site) -> Checked {
    let machine = probe(site, "cancel", |_, _| ()).await?;
    let (began, told) = (site.folder.join("cancel-began"), site.folder.join("cancel-told"));
    let input = json!({"seconds": 300, "began": began, "told": told});
    let job = json!({"tenant": site.tenant, "kind": "verify-hold", "input": input});
    let execution = site.start(&machine, &job).await?;
    wait_for(&began, "the job to begin").await?;

    let stopped = Instant::now();
    site.sfn.stop_execution().execution_arn(&execution).send().await?;
    wait_for(&told, "the handler to hear of the stop").await?;
    let milliseconds = stopped.elapsed().as_millis();

    site.end(&execution).await?;
    Ok(passed(format!("the handler heard of StopExecution after {milliseconds} ms")))
}

/// Waits until the worker of the verification has made a file.
async fn wait_for(file: &Path, what: &str) -> Result<(), Error> {
    let end = Instant::now() + TIMEOUT;
    while !file.exists() {
        if Instant::now() > end {
            return Err(Error::unexpected(format!("waited {TIMEOUT:?} for {what}")));
        }
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
