//! Every deployed state machine runs its samples and ends as they say.

use std::fs;

use aws_sdk_sfn::types::HistoryEventType;
use http::Method;
use serde_json::{Value, json};

use crate::checks::{Checked, expect, passed};
use crate::cleanup::Created;
use crate::copies::deployed;
use crate::error::Error;
use crate::samples::{Ending, in_tenant, samples};
use crate::site::Site;

/// How long a task may take to be submitted.
const TIMEOUT: std::time::Duration = std::time::Duration::from_mins(1);

/// Runs every sample of one machine.
pub(crate) async fn outcomes(site: &Site, machine: &str) -> Checked {
    let arn = deployed(site, machine).await?.for_tenant(site, machine).await?;

    let mut count = 0;
    for (_, name, ending) in samples().into_iter().filter(|(of, ..)| *of == machine) {
        let path = site.project.file(&format!("events/statemachines/{machine}/{name}.json"));
        let text = fs::read_to_string(&path).map_err(Error::file(&path))?;
        let input: Value = serde_json::from_str(&in_tenant(&text, &site.tenant)).unwrap_or_default();

        let execution = site.start(&arn, &input).await?;
        if machine == "approve" {
            decide(site, &execution, name == "approved").await?;
        }
        let finished = site.end(&execution).await?;
        let difference = ending.of_tenant(&site.tenant).difference(&finished);
        expect(difference.is_none(), || format!("{name}: {}", difference.unwrap_or_default()))?;
        count += 1;
    }

    expect(count > 0, || format!("the machine {machine} has no samples"))?;
    Ok(passed(format!("{count} samples end as expected")))
}

/// Approves or rejects as a browser does: with the form of the page to which the link leads.
async fn decide(site: &Site, execution: &str, approve: bool) -> Result<(), Error> {
    let submitted = HistoryEventType::TaskSubmitted;
    let events = site.executions.happened(execution, &submitted, 1, TIMEOUT).await?;
    let details = events.first().and_then(|event| event.task_submitted_event_details());
    let output: Value =
        serde_json::from_str(details.and_then(|details| details.output()).unwrap_or_default())
            .unwrap_or_default();

    let link = &output["Payload"][if approve { "Approve" } else { "Reject" }];
    let link = link.as_str().ok_or_else(|| Error::unexpected("the approval function returned no link"))?;
    for method in [Method::GET, Method::POST] {
        let (status, _) = site.api.open(method.clone(), link).await?;
        expect(status == 200, || format!("{method} of the approval's link is answered with HTTP {status}"))?;
    }
    Ok(())
}

/// A Map over a list in S3: its jobs are executions of their own, whose tokens the functions must be able to answer.
pub(crate) async fn distributed_map(site: &Site) -> Checked {
    let (bucket, key) = (site.outputs.get("JobListBucketName").to_owned(), format!("{}/jobs.json", site.run));
    let jobs: Vec<Value> =
        (0..11).map(|b| json!({"tenant": site.tenant, "input": {"a": 1, "b": b}})).collect();
    site.cleanup.add(Created::Object { bucket: bucket.clone(), key: key.clone() });
    site.api.put(&bucket, &key, json!(jobs).to_string().into()).await?;

    let input = json!({"bucket": bucket, "key": key});
    let (_, finished) = site.run(site.outputs.machine("fan-out"), &input).await?;
    let difference = Ending::Succeeds(input).difference(&finished);
    expect(difference.is_none(), || difference.unwrap_or_default())?;
    Ok(passed("SendTaskSuccess is accepted from 11 child executions of a Distributed Map"))
}
