//! `make demo`: one job goes from Step Functions to a worker in a private network and comes back, on this machine.

use std::process::ExitCode;
use std::time::Duration;

use aws_sdk_sfn::Client;
use aws_sdk_sfn::types::HistoryEventType;
use postern_local::{
    Deployment, EmulatorOptions, Error, Executions, LocalStack, Process, Project, follow, jobs_table, say,
    verdict, watch,
};
use postern_runtime::aws::SdkConfig;
use serde_json::Value;
use tokio::time::Instant;

/// How long the worker may take to hear of a stopped execution.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The input of the AWS sample.
const SAMPLE_INPUT: &str = r#"{"a":15,"b":42}"#;
/// The output that the AWS sample gives for it.
const SAMPLE_OUTPUT: &str = r#"{"a":15,"b":42,"lambdaOutput":{"result":57}}"#;

#[tokio::main]
async fn main() -> ExitCode {
    // Boxed: the future of the demo is too large for the stack frame of `main`.
    verdict(Box::pin(demo()).await)
}

async fn demo() -> Result<bool, Error> {
    let project = Project::here()?;
    let folder = project.fresh_folder("demo")?;
    say("Postern: a Step Functions job runs in a private network and comes back\n");
    let options = EmulatorOptions::default();
    let deployment = Deployment::new("postern");
    let mut stack =
        LocalStack::start_with(&project, &folder, options, deployment, "postern-demo-worker").await?;

    let machine = stack.outputs.state_machine();
    say(format_args!("\nexecution of {machine} with {SAMPLE_INPUT}"));
    let config = stack.emulator.sdk_config();
    let executions = Executions::new(&config);
    let finished = watch(&executions, machine, SAMPLE_INPUT, Some(&stack.worker_log), None).await?;

    say("\nwhat ran where");
    for (what, place) in places(&project, &stack) {
        say(format_args!("  {what:<18} {place}"));
    }
    let queried = Box::pin(query(&stack, &executions)).await?;
    let counted = Box::pin(count_and_cancel(&stack, &executions)).await?;
    stack.worker.stop();
    drop(stack);

    let value = |json: &str| serde_json::from_str::<Value>(json).ok();
    let as_expected = finished.output.as_deref().and_then(value) == value(SAMPLE_OUTPUT);
    let all_right = as_expected && queried && counted;
    if all_right {
        say(
            "\nOK: the job ran on the worker and its result is the execution's output. Everything is stopped.",
        );
        say("`make up` starts the same stack and leaves it running.");
    } else {
        let logs = folder.display();
        say(format_args!(
            "\nFAILED: the output should be {SAMPLE_OUTPUT}, the query should return five orders, the long job should \
             succeed and the last one end as ABORTED\n  the logs are in {logs}"
        ));
    }
    Ok(all_right)
}

/// Runs a job that queries the plant's database, and prints the rows. Whether they are all orders of the day.
async fn query(stack: &LocalStack, executions: &Executions) -> Result<bool, Error> {
    let config = stack.emulator.sdk_config();
    let machine = machine_of(stack, &config, "orders-of-day").await?;

    say("\na job that queries a database (SQLite) with a statement of the worker's configuration");
    let log = Some(stack.worker_log.as_path());
    let finished = watch(executions, &machine, r#"{"day":"2026-11-01"}"#, log, None).await?;

    let output: Value =
        serde_json::from_str(finished.output.as_deref().unwrap_or_default()).unwrap_or_default();
    let rows = output["lambdaOutput"]["result"].as_array().map(Vec::as_slice).unwrap_or_default();
    say("\n  customer            total");
    for row in rows {
        let (customer, total) = (row["customer"].as_str().unwrap_or_default(), &row["total"]);
        say(format_args!("  {customer:<16} {:>8.2}", total.as_f64().unwrap_or_default()));
    }
    Ok(rows.len() == 5)
}

/// Runs a job that tells how far it is, and then another that is stopped in the middle. Whether they ended so.
async fn count_and_cancel(stack: &LocalStack, executions: &Executions) -> Result<bool, Error> {
    let config = stack.emulator.sdk_config();
    let machine = machine_of(stack, &config, "count").await?;
    let table = || jobs_table(&config, &stack.outputs);

    say("\na job that takes its time, with its progress and its log");
    let log = Some(stack.worker_log.as_path());
    let counted = watch(executions, &machine, r#"{"rows":600}"#, log, table().await).await?;

    say("\nanother one, which is stopped in the middle: the worker hears of it, and its handler ends");
    let execution = executions.start(&machine, r#"{"rows":1500}"#).await?;
    let stop = async {
        executions.happened(&execution, &HistoryEventType::TaskSubmitted, 1, TIMEOUT).await?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let stop = Client::new(&config).stop_execution().execution_arn(&execution);
        stop.cause("no longer needed").send().await?;
        Ok::<_, Error>(())
    };
    let (stopped, finished) = tokio::join!(stop, follow(executions, &execution, log, table().await));
    stopped?;
    let told = wait_for_end(&stack.worker).await;

    Ok(counted.status == "SUCCEEDED" && finished?.status == "ABORTED" && told)
}

/// A copy of the state machine whose jobs run in another handler. The functions may answer the jobs of machines with
/// this name.
async fn machine_of(stack: &LocalStack, config: &SdkConfig, kind: &str) -> Result<String, Error> {
    let client = Client::new(config);
    let machine = stack.outputs.state_machine();
    let deployed = client.describe_state_machine().state_machine_arn(machine).send().await?;
    let definition = deployed.definition.replace(r#""Kind": "add""#, &format!(r#""Kind": "{kind}""#));

    let name = format!("{}-verify-{kind}", stack.outputs.stack());
    let copy = client.create_state_machine().name(name).role_arn(deployed.role_arn).definition(definition);
    Ok(copy.send().await?.state_machine_arn)
}

/// Waits until the worker has reported that the job was cancelled, and prints what it did.
async fn wait_for_end(worker: &Process) -> bool {
    let end = Instant::now() + TIMEOUT;
    while Instant::now() < end {
        if worker.logs().contains(r#""message":"job cancelled""#) {
            say("  the worker has ended the job and reported it as CANCELLED");
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}

/// The parts of the system and the processes that they ran in.
fn places(project: &Project, stack: &LocalStack) -> [(&'static str, String); 6] {
    let emulator = format!("emulator, process {}", stack.emulator.process().id());
    let function = |name: &str| {
        let binary = project.program(name);
        format!("emulator, running our own {}", binary.display())
    };

    let broker = stack.emulator.broker();
    [
        ("state machine", format!("Step Functions in the {emulator}")),
        ("dispatcher", format!("Lambda in the {}", function("dispatcher"))),
        ("message broker", format!("IoT Core in the emulator, MQTT 5 over mutual TLS at {broker}")),
        ("add (the job)", format!("the worker, process {}", stack.worker.id())),
        ("answer rule", format!("IoT Core in the {emulator}")),
        ("task-token-done", format!("Lambda in the {}", function("task-token-done"))),
    ]
}
