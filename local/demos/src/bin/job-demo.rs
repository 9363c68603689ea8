//! `make demo`: one job goes from Step Functions to a worker in a private network and comes back, on this machine.

use std::process::ExitCode;

use postern_local::{EmulatorOptions, Error, Executions, LocalStack, Project, say, verdict, watch};
use serde_json::Value;

/// The input of the AWS sample.
const SAMPLE_INPUT: &str = r#"{"a":15,"b":42}"#;
/// The output that the AWS sample gives for it.
const SAMPLE_OUTPUT: &str = r#"{"a":15,"b":42,"lambdaOutput":{"result":57}}"#;

#[tokio::main]
async fn main() -> ExitCode {
    verdict(demo().await)
}

async fn demo() -> Result<bool, Error> {
    let project = Project::here()?;
    let folder = project.fresh_folder("demo")?;
    say("Postern: a Step Functions job runs in a private network and comes back\n");
    let mut stack = LocalStack::start(&project, &folder, EmulatorOptions::default()).await?;

    let machine = stack.outputs.state_machine();
    say(format_args!("\nexecution of {machine} with {SAMPLE_INPUT}"));
    let executions = Executions::new(&stack.emulator.sdk_config());
    let finished = watch(&executions, machine, SAMPLE_INPUT, Some(&stack.worker_log)).await?;

    say("\nwhat ran where");
    for (what, place) in places(&project, &stack) {
        say(format_args!("  {what:<18} {place}"));
    }
    stack.worker.stop();
    drop(stack);

    let value = |json: &str| serde_json::from_str::<Value>(json).ok();
    let as_expected = finished.output.as_deref().and_then(value) == value(SAMPLE_OUTPUT);
    if as_expected {
        say(
            "\nOK: the job ran on the worker and its result is the execution's output. Everything is stopped.",
        );
        say("`make up` starts the same stack and leaves it running.");
    } else {
        let logs = folder.display();
        say(format_args!("\nFAILED: the output should be {SAMPLE_OUTPUT}\n  the logs are in {logs}"));
    }
    Ok(as_expected)
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
        ("add (the job)", format!("postern-worker, process {}", stack.worker.id())),
        ("answer rule", format!("IoT Core in the {emulator}")),
        ("task-token-done", format!("Lambda in the {}", function("task-token-done"))),
    ]
}
