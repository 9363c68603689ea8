//! `make verify` against the local stack: green on the template as it is, red where the template is broken, and gone
//! without a trace.

use std::process::Command;

use bytes::Bytes;
use http::Method;
use postern_local::{Api, Call, Deployment, Process};
use serde_json::Value;

use crate::stack::{Stack, TIMEOUT, logged};

const TEMPLATE: &str = "template.yml";

/// The command of `make verify` for a stack in the emulator.
fn command(stack: &Stack) -> Command {
    let mut command = Command::new(stack.project.program("postern-verify"));
    command.args(["--stack", stack.outputs.stack(), "--jobs", "5", "--dead-letter-seconds", "60"]);
    command.args(["--endpoint", &stack.emulator.endpoint(), "--broker", &stack.emulator.broker()]);
    command.arg("--report").arg(stack.folder.join("report.md"));
    command
}

/// Starts the verification. It runs in the background, so that its workers' broker is not blocked by the test.
fn start(stack: &Stack) -> Process {
    Process::start("the verification", &mut command(stack), &stack.folder.join("verify.log")).unwrap()
}

/// Waits for the end of the verification; whether it succeeded.
async fn end(verification: &mut Process) -> bool {
    let end = tokio::time::Instant::now() + 5 * TIMEOUT;
    loop {
        if let Some(status) = verification.ended() {
            return status.success();
        }
        assert!(tokio::time::Instant::now() < end, "the verification still runs:\n{}", verification.logs());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// The names of the checks with this outcome, from the report that the run has written.
fn checks(stack: &Stack, outcome: &str) -> Vec<String> {
    let report = std::fs::read_to_string(stack.folder.join("report.md")).unwrap();
    let rows = report.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        Some((cells.next()?, cells.next()?))
    });
    rows.filter(|(_, found)| *found == outcome).map(|(name, _)| name.to_owned()).collect()
}

/// What the account has: the names of things and state machines, and the ids of certificates.
async fn inventory(stack: &Stack) -> Vec<String> {
    let config = stack.emulator.sdk_config();
    let machines = aws_sdk_sfn::Client::new(&config).list_state_machines().send().await.unwrap();
    let mut names: Vec<String> = machines.state_machines.into_iter().map(|machine| machine.name).collect();

    let api = Api::new(config).unwrap();
    for (path, list, name) in
        [("/things", "things", "thingName"), ("/certificates", "certificates", "certificateId")]
    {
        let call = Call { service: "iot", method: Method::GET, path, headers: &[], body: Bytes::new() };
        let found: Value = serde_json::from_slice(&api.send(path, call).await.unwrap()).unwrap();
        names
            .extend(found[list].as_array().unwrap().iter().map(|one| one[name].as_str().unwrap().to_owned()));
    }

    names.sort();
    names
}

/// A stack with every part of the template. The emulator knows no alarms on metric math, so it has none.
async fn everything(name: &str) -> Stack {
    let mut stack = Stack::start(name).await;
    let secret = r#"{"GRIP_URL":"http://127.0.0.1:5561/","GRIP_VERIFY_KEY":"changeme"}"#;
    let secret = stack.emulator.create_secret("grip", secret).await.unwrap();

    let mut deployment = Deployment::new("test").parameter("GripSecretArn", &secret);
    for part in ["Approvals", "Kafka", "Grip", "Dashboard"] {
        deployment = deployment.parameter(part, "true");
    }
    for (parameter, value) in [
        (
            "MskClusterArn",
            "arn:aws:kafka:us-east-1:123456789012:cluster/own/00000000-0000-4000-8000-000000000000-1",
        ),
        (
            "MskSourceArn",
            "arn:aws:kafka:us-east-1:123456789012:cluster/own/00000000-0000-4000-8000-000000000000-1",
        ),
    ] {
        deployment = deployment.parameter(parameter, value);
    }
    stack.outputs = stack.emulator.deploy(&deployment).await.unwrap();
    stack
}

#[tokio::test(flavor = "multi_thread")]
async fn every_check_passes_on_the_local_stack_and_nothing_is_left() {
    let stack = everything("verify").await;
    let before = inventory(&stack).await;

    let mut verification = start(&stack);
    assert!(end(&mut verification).await, "{}", verification.logs());

    let known = std::fs::read_to_string(stack.project.file("docs/verified.md")).unwrap();
    let outcomes = ["passed", "observed", "unknown here"];
    let found: Vec<String> = outcomes.iter().flat_map(|outcome| checks(&stack, outcome)).collect();
    assert!(found.len() > 20, "{found:?}");
    for name in found {
        let name = name.split_once(':').map_or(name.as_str(), |(topic, _)| topic);
        assert!(known.contains(&format!("`{name}")), "docs/verified.md does not explain the check {name}");
    }

    assert_eq!(
        checks(&stack, "unknown here"),
        ["entered-time-redrive", "group-offline", "rule-fields", "rule-no-json"]
    );
    assert_eq!(checks(&stack, "not deployed"), Vec::<String>::new());
    assert_eq!(inventory(&stack).await, before, "the verification leaves something behind");
    assert_eq!(stack.dead_letters().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_broken_in_the_template_is_red_in_the_report_and_the_rest_is_green() {
    let deployment = Deployment::new("test")
        .edit(TEMPLATE, "states:SendTaskFailure, states:SendTaskHeartbeat]", "states:SendTaskFailure]")
        .edit(
            TEMPLATE,
            ":topicfilter/${!iot:Connection.Thing.Attributes[tenant]}/to/worker\n",
            ":topicfilter/*/to/worker\n",
        )
        .edit(TEMPLATE, ":topic/${!iot:Connection.Thing.Attributes[tenant]}/to/lambda", ":topic/*/to/lambda")
        .edit(TEMPLATE, "!Sub \"${FanOutStateMachine}/*\"", "!Sub \"${FanOutStateMachine}/none\"");
    let stack = Stack::with("verify-broken", deployment).await;
    let before = inventory(&stack).await;

    let mut verification = start(&stack);
    assert!(!end(&mut verification).await, "the verification must fail:\n{}", verification.logs());

    assert_eq!(
        checks(&stack, "FAILED"),
        ["map-children", "long-job", "wrong-tenant", "wrong-group", "wrong-answers"],
        "{}",
        verification.logs()
    );
    assert_eq!(inventory(&stack).await, before, "a failed verification leaves something behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_verification_cleans_up() {
    let stack = Stack::start("verify-interrupted").await;
    let before = inventory(&stack).await;

    let mut verification = start(&stack);
    logged(&verification, "machine:branch").await;
    assert_ne!(inventory(&stack).await, before, "the verification has identities of its own by now");

    assert_eq!(verification.stop().and_then(|status| status.code()), Some(1), "{}", verification.logs());
    assert!(verification.logs().contains("FAILED: interrupted"), "{}", verification.logs());
    assert_eq!(inventory(&stack).await, before, "an interrupted verification leaves something behind");
}
