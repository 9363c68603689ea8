//! Runs state machines, also with temporary changes, and records which of their `Retry` and `Catch` rules are reached.

use std::collections::BTreeSet;

use aws_sdk_sfn::Client;
use aws_sdk_sfn::types::HistoryEvent;
use postern_local::{Executions, Finished};
use serde_json::{Map, Value, json};

use crate::stack::TIMEOUT;

/// The executions of one stack, and the rules that they have reached.
pub(crate) struct Runs {
    pub(crate) client: Client,
    pub(crate) executions: Executions,
    /// The rules that the executions have reached, as `MACHINE: STATE Retry[0]`.
    pub(crate) reached: BTreeSet<String>,
}

impl Runs {
    pub(crate) fn new(config: &postern_runtime::aws::SdkConfig) -> Self {
        Self { client: Client::new(config), executions: Executions::new(config), reached: BTreeSet::new() }
    }

    /// The current definition of a machine.
    pub(crate) async fn definition(&self, arn: &str) -> Value {
        let machine = self.client.describe_state_machine().state_machine_arn(arn).send().await.unwrap();
        serde_json::from_str(&machine.definition).unwrap()
    }

    /// Runs a machine to its end.
    pub(crate) async fn run(&mut self, machine: &str, arn: &str, input: &str) -> Finished {
        let execution = self.executions.start(arn, input).await.unwrap();
        self.end(machine, arn, &execution).await
    }

    /// Waits for the end of an execution and records the rules that it has reached.
    pub(crate) async fn end(&mut self, machine: &str, arn: &str, execution: &str) -> Finished {
        let finished = self.executions.end(execution, TIMEOUT).await.unwrap();

        let definition = self.definition(arn).await;
        for execution in [execution.to_owned()].into_iter().chain(self.children(execution).await) {
            let events = self.executions.history(&execution).await.unwrap();
            let rules = reached(&definition, &events);
            self.reached.extend(rules.into_iter().map(|rule| format!("{machine}: {rule}")));
        }
        finished
    }

    /// The executions that a distributed Map of this execution has started.
    async fn children(&self, execution: &str) -> Vec<String> {
        let mut children = Vec::new();
        let runs = self.client.list_map_runs().execution_arn(execution).send().await.unwrap();

        for run in runs.map_runs {
            let list = self.client.list_executions().map_run_arn(run.map_run_arn).send().await.unwrap();
            children.extend(list.executions.into_iter().map(|child| child.execution_arn));
        }
        children
    }

    /// Changes a machine, runs it to its end, and restores its definition.
    pub(crate) async fn run_changed(
        &mut self,
        machine: &str,
        arn: &str,
        input: &str,
        change: impl Fn(&mut Value),
    ) -> Finished {
        let original = self.definition(arn).await;
        let mut changed = original.clone();
        change(&mut changed);

        self.update(arn, &changed).await;
        let finished = self.run(machine, arn, input).await;

        self.update(arn, &original).await;
        finished
    }

    async fn update(&self, arn: &str, definition: &Value) {
        let update = self.client.update_state_machine().state_machine_arn(arn);
        update.definition(definition.to_string()).send().await.unwrap();
    }
}

/// Collects every state of a machine, including the states of branches and iterations.
fn all_states<'a>(machine: &'a Value, all: &mut Vec<(&'a str, &'a Value)>) {
    for (name, state) in machine["States"].as_object().unwrap() {
        all.push((name, state));

        let branches = state["Branches"].as_array().into_iter().flatten();
        for inner in branches.chain(state.get("ItemProcessor")) {
            all_states(inner, all);
        }
    }
}

/// The `Retry` or `Catch` rules of a state.
fn rules<'a>(state: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    state[field].as_array().into_iter().flatten()
}

/// Every rule of a machine: `STATE Retry[0]`, `STATE Catch[0]` and so on.
pub(crate) fn reachable(machine: &Value) -> Vec<String> {
    let mut states = Vec::new();
    all_states(machine, &mut states);

    let mut all = Vec::new();
    for (name, state) in states {
        for field in ["Retry", "Catch"] {
            all.extend((0..rules(state, field).count()).map(|index| format!("{name} {field}[{index}]")));
        }
    }
    all
}

/// The rules that an execution has reached, according to its history.
fn reached(machine: &Value, events: &[HistoryEvent]) -> Vec<String> {
    let mut states = Vec::new();
    all_states(machine, &mut states);
    let before = |event: &HistoryEvent| events.iter().find(|other| other.id() == event.previous_event_id());
    let state =
        |name: &str| states.iter().find(|(other, _)| *other == name).map(|(_, state)| *state).unwrap();

    let mut found = Vec::new();
    for event in events {
        let Some(previous) = before(event) else { continue };

        if let (Some(entered), Some(left)) =
            (event.state_entered_event_details(), previous.state_exited_event_details())
        {
            let mut catches = rules(state(left.name()), "Catch").enumerate();
            let caught = catches.find(|(_, rule)| rule["Next"] == entered.name());
            found.extend(caught.map(|(index, _)| format!("{} Catch[{index}]", left.name())));
        }

        // A task that is scheduled directly after a failure is a retry.
        let failed = previous.task_failed_event_details().and_then(|details| details.error());
        let error = failed.or_else(|| previous.task_timed_out_event_details()?.error());
        if let (Some(error), Some(_)) = (error, event.task_scheduled_event_details()) {
            let mut entered = previous;
            while entered.state_entered_event_details().is_none() {
                entered = before(entered).unwrap();
            }

            let name = entered.state_entered_event_details().unwrap().name();
            let matches_error =
                |rule: &Value| rule["ErrorEquals"].as_array().unwrap().contains(&json!(error));
            let rule = rules(state(name), "Retry").position(matches_error).unwrap();
            found.push(format!("{name} Retry[{rule}]"));
        }
    }
    found
}

/// Sends the machine's jobs to a tenant without a worker. The heartbeat timeout is one second, and each rule retries
/// only once, which is enough to reach it.
pub(crate) fn without_worker(machine: &mut Value) {
    each_task(machine, &mut |task| {
        if let Some(job) = task.pointer_mut("/Parameters/Payload/Job").and_then(Value::as_object_mut) {
            job.remove("Tenant.$");
            job.insert("Tenant".into(), json!("tenant-without-worker"));
            job["HeartbeatSeconds"] = json!(1);
            task["HeartbeatSeconds"] = json!(1);
        }

        for rule in task.get_mut("Retry").and_then(Value::as_array_mut).into_iter().flatten() {
            rule["MaxAttempts"] = json!(1);
        }
    });
}

/// Changes every task of a machine, including the tasks of branches and iterations.
fn each_task(machine: &mut Value, change: &mut impl FnMut(&mut Value)) {
    for (_, state) in machine["States"].as_object_mut().map(Map::iter_mut).unwrap() {
        if state["Type"] == "Task" {
            change(state);
        }
        for inner in state.get_mut("Branches").and_then(Value::as_array_mut).into_iter().flatten() {
            each_task(inner, change);
        }
        if let Some(inner) = state.get_mut("ItemProcessor") {
            each_task(inner, change);
        }
    }
}
