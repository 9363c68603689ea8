//! The workers of a run: processes on this machine that connect to the stack's broker.

use std::process::ExitStatus;
use std::time::Duration;

use postern_local::{Process, WorkerFiles};
use tokio::time::{Instant, sleep};

use crate::error::Error;
use crate::site::Site;

/// How long a worker may take to subscribe, or to end by itself.
const TIMEOUT: Duration = Duration::from_mins(1);

/// The pause before a worker that was refused is started again.
const PAUSE: Duration = Duration::from_secs(2);

/// The name of the program, which stands beside this one.
const PROGRAM: &str = "postern-verify-worker";

/// Starts a worker with more arguments and waits until it has subscribed. AWS IoT Core may need some seconds until it knows a new
/// certificate and its policy, and until then a worker is refused and ends.
pub(crate) async fn start(site: &Site, files: &WorkerFiles, arguments: &[&str]) -> Result<Process, Error> {
    let end = Instant::now() + TIMEOUT;
    loop {
        let mut worker = files.start(&site.project.program(PROGRAM), arguments)?;
        if subscribed(&mut worker, end).await {
            return Ok(worker);
        }
        if Instant::now() > end {
            return Err(worker.failure().into());
        }
        sleep(PAUSE).await;
    }
}

/// Waits until a worker has subscribed; false if it ended before, or not in time.
async fn subscribed(worker: &mut Process, end: Instant) -> bool {
    while !worker.logs().contains(r#""message":"subscribed""#) {
        if worker.ended().is_some() || Instant::now() > end {
            return false;
        }
        sleep(Duration::from_millis(20)).await;
    }
    true
}

/// Starts a worker with more arguments and waits until it has ended; its exit status and its output.
pub(crate) async fn ended(
    site: &Site,
    files: &WorkerFiles,
    arguments: &[&str],
) -> Result<(ExitStatus, String), Error> {
    let mut worker = files.start(&site.project.program(PROGRAM), arguments)?;

    let end = Instant::now() + TIMEOUT;
    loop {
        if let Some(status) = worker.ended() {
            return Ok((status, worker.logs()));
        }
        if Instant::now() > end {
            return Err(Error::unexpected(format!("the worker still runs after {TIMEOUT:?}")));
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// The number of jobs that a worker has received.
pub(crate) fn received(worker: &Process) -> usize {
    worker.logs().matches(r#""message":"job received""#).count()
}
