//! Temporary copies of the deployed state machines.
//!
//! A deployed machine sends its jobs to the stack's default tenant, whose workers may be in production. A copy runs the
//! deployed definition under the deployed role, and differs in the tenant and in what a check changes.

use serde_json::{Map, Value, json};

use crate::cleanup::Created;
use crate::error::Error;
use crate::site::Site;

/// The deployed definition of a machine, and its role.
pub(crate) struct Deployed {
    arn: String,
    role: String,
    pub(crate) definition: Value,
}

/// Reads a machine of the stack.
pub(crate) async fn deployed(site: &Site, machine: &str) -> Result<Deployed, Error> {
    let arn = site.outputs.find_machine(machine)?.to_owned();
    let described = site.sfn.describe_state_machine().state_machine_arn(&arn).send().await?;
    let definition = serde_json::from_str(&described.definition)
        .map_err(|error| Error::Aws(format!("the definition of {machine} is not JSON: {error}")))?;
    Ok(Deployed { arn, role: described.role_arn, definition })
}

impl Deployed {
    /// The ARN of a machine that sends its jobs to `tenant`: the deployed one if it takes the tenant from its input,
    /// and a copy otherwise.
    pub(crate) async fn for_tenant(mut self, site: &Site, label: &str) -> Result<String, Error> {
        let mut changed = false;
        each_job(&mut self.definition, &mut |_, job| {
            if !job.contains_key("Tenant.$") {
                job.insert("Tenant".into(), json!(site.tenant));
                changed = true;
            }
        });

        if changed { self.create(site, label).await } else { Ok(self.arn) }
    }

    /// Creates a machine with this definition under the deployed role. The stack's functions may answer the tasks of
    /// machines with this name.
    pub(crate) async fn create(self, site: &Site, label: &str) -> Result<String, Error> {
        let name = format!("{}-{}-{label}", site.outputs.stack(), site.run);
        let arn = self.arn.rsplit_once(':').map(|(prefix, _)| format!("{prefix}:{name}")).unwrap_or_default();

        site.cleanup.add(Created::Machine(arn));
        let create = site.sfn.create_state_machine().name(name).role_arn(self.role);
        let created = create.definition(self.definition.to_string()).send().await?;
        Ok(created.state_machine_arn)
    }
}

/// A copy of `on-prem-job` that takes tenant, kind and input from the execution's input, with the changes of a check.
pub(crate) async fn probe(
    site: &Site,
    label: &str,
    change: impl Fn(&mut Map<String, Value>, &mut Map<String, Value>),
) -> Result<String, Error> {
    let mut deployed = deployed(site, "on-prem-job").await?;
    each_job(&mut deployed.definition, &mut |task, job| {
        job.remove("Kind");
        job.insert("Kind.$".into(), json!("$.kind"));
        job.insert("Tenant.$".into(), json!("$.tenant"));
        if let Some(payload) = task.get_mut("Parameters").and_then(|parameters| parameters.get_mut("Payload"))
        {
            payload["Input.$"] = json!("$.input");
        }
        change(task, job);
    });
    deployed.create(site, label).await
}

/// Calls `change` with every task that dispatches a job, and with the task's `Job`.
fn each_job(machine: &mut Value, change: &mut impl FnMut(&mut Map<String, Value>, &mut Map<String, Value>)) {
    for (_, state) in machine["States"].as_object_mut().map(Map::iter_mut).into_iter().flatten() {
        change_job(state, change);

        let branches = state.get_mut("Branches").and_then(Value::as_array_mut);
        for branch in branches.into_iter().flatten() {
            each_job(branch, change);
        }
        if let Some(processor) = state.get_mut("ItemProcessor") {
            each_job(processor, change);
        }
    }
}

fn change_job(state: &mut Value, change: &mut impl FnMut(&mut Map<String, Value>, &mut Map<String, Value>)) {
    // Taken out while it is changed: the task around it is changed as well.
    let job = state.pointer_mut("/Parameters/Payload/Job").map(Value::take);
    let (Some(Value::Object(mut job)), Some(task)) = (job, state.as_object_mut()) else { return };

    change(task, &mut job);
    if let Some(place) = state.pointer_mut("/Parameters/Payload/Job") {
        *place = Value::Object(job);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_jobs_of_branches_and_maps_are_changed_and_other_tasks_are_not() {
        let job = json!({"Type": "Task", "Parameters": {"Payload": {"Job": {"Kind": "add"}}}});
        let other = json!({"Type": "Task", "Parameters": {"Payload": {"Input": 1}}});
        let inner = json!({"States": {"Job": job, "Other": other}});
        let mut machine = json!({"States": {
            "Both": {"Type": "Parallel", "Branches": [inner]},
            "Each": {"Type": "Map", "ItemProcessor": inner},
            "Job": job,
        }});

        let mut count = 0;
        each_job(&mut machine, &mut |_, job| {
            job.insert("Tenant".into(), json!("t"));
            count += 1;
        });

        assert_eq!(count, 3);
        let tenant = "/States/Both/Branches/0/States/Job/Parameters/Payload/Job/Tenant";
        assert_eq!(machine.pointer(tenant), Some(&json!("t")));
        assert_eq!(machine.pointer("/States/Each/ItemProcessor/States/Other"), Some(&other));
    }
}
