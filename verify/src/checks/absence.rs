//! Workers that share a tenant's jobs, and jobs that are sent while no worker is connected.

use std::time::Duration;

use aws_sdk_sfn::types::HistoryEventType;
use postern_local::WorkerFiles;
use serde_json::json;

use crate::checks::errors::{heartbeats, retry_once};
use crate::checks::{Checked, expect, passed};
use crate::copies::probe;
use crate::error::Error;
use crate::identity::Identity;
use crate::report::Verdict;
use crate::site::Site;
use crate::workers::{received, start};

/// How long the dispatcher may take to publish a job.
const TIMEOUT: Duration = Duration::from_mins(1);
/// With a random choice of the member, one job in 32,768 runs gives all jobs to one of two members.
const JOBS: usize = 16;

/// The workers of a group, which are stopped, and the machine whose jobs they take.
pub(crate) struct Group {
    machine: String,
    tenant: String,
    members: Vec<WorkerFiles>,
}

impl Group {
    /// Creates two identities in one group, in a tenant that has no other worker.
    pub(crate) async fn create(site: &Site) -> Result<Self, Error> {
        // A stack that handles one tenant only has no other tenant for them. Its first worker is stopped by now.
        let tenant =
            if site.tenant == site.run { format!("{}-group", site.run) } else { site.tenant.clone() };

        let mut members = Vec::new();
        for name in ["member-a", "member-b"] {
            let identity = Identity { name, tenant: &tenant, group: Some("verify") };
            members.push(identity.create(site).await?);
        }
        Ok(Self { machine: absence_probe(site, "group").await?, tenant, members })
    }

    /// Each job runs once, and both workers get some.
    pub(crate) async fn shares(&self, site: &Site) -> Checked {
        let mut workers = Vec::new();
        for files in &self.members {
            workers.push(start(site, files, &[]).await?);
        }

        let mut executions = Vec::new();
        for number in 0..JOBS {
            let job = json!({"tenant": self.tenant, "kind": "add", "input": {"a": number, "b": 0}});
            executions.push(site.start(&self.machine, &job).await?);
        }
        for execution in &executions {
            let finished = site.end(execution).await?;
            expect(finished.status == "SUCCEEDED", || format!("expected a success, found {finished:?}"))?;
        }

        let counts: Vec<usize> = workers.iter().map(received).collect();
        let once = counts.iter().sum::<usize>() == JOBS;
        expect(once, || format!("{JOBS} jobs were received {counts:?} times; each should go to one worker"))?;
        expect(counts.iter().all(|count| *count > 0), || format!("one worker got no job: {counts:?}"))?;
        Ok(passed(format!("{JOBS} jobs went to two workers, {} and {}, each once", counts[0], counts[1])))
    }

    /// Whether a job waits for a group of which no member is connected.
    pub(crate) async fn offline(&self, site: &Site) -> Checked {
        let attempts = attempts(site, &self.machine, &self.tenant, &self.members[0]).await?;
        let found = match attempts {
            1 => "the job waited in the broker's queue and ran in its first attempt",
            _ => "the broker dropped the job; it ran in the retry after a heartbeat timeout",
        };
        Ok(if site.is_aws() {
            Verdict::Observed(found.into())
        } else {
            Verdict::UnknownHere(format!("AWS does not document it; on the local stack {found}"))
        })
    }
}

/// A job waits for a worker that was connected before and is offline.
pub(crate) async fn worker_offline(site: &Site, files: &WorkerFiles) -> Checked {
    let machine = absence_probe(site, "absent").await?;
    let attempts = attempts(site, &machine, &site.tenant, files).await?;
    expect(attempts == 1, || format!("the job needed {attempts} attempts; its message did not wait"))?;
    Ok(passed(
        "a job that is sent while the worker is offline runs in its first attempt when the worker is back",
    ))
}

/// A machine whose jobs time out soon if no worker takes them, and are then sent once more.
async fn absence_probe(site: &Site, label: &str) -> Result<String, Error> {
    let change = |task: &mut _, job: &mut _| {
        heartbeats(task, job, 20);
        retry_once(task, "States.HeartbeatTimeout");
    };
    probe(site, label, change).await
}

/// Sends a job while the worker is stopped, then starts the worker; the number of attempts that the job needed.
async fn attempts(site: &Site, machine: &str, tenant: &str, files: &WorkerFiles) -> Result<usize, Error> {
    let job = json!({"tenant": tenant, "kind": "add", "input": {"a": 1, "b": 2}});
    let execution = site.start(machine, &job).await?;
    site.executions.happened(&execution, &HistoryEventType::TaskSubmitted, 1, TIMEOUT).await?;

    let worker = start(site, files, &[]).await?;
    let finished = site.end(&execution).await?;
    drop(worker);
    expect(finished.status == "SUCCEEDED", || format!("expected a success, found {finished:?}"))?;

    let history = site.executions.history(&execution).await?;
    Ok(history.iter().filter(|event| *event.r#type() == HistoryEventType::TaskScheduled).count())
}
