//! The state machines: the Dojo's two runs, every sample of every use case, every `Retry` and `Catch`.

use std::collections::BTreeSet;
use std::fs;

use aws_sdk_sfn::types::HistoryEventType;
use postern_local::{Deployment, Finished, Outputs};
use serde_json::{Value, json};

use crate::stack::{Stack, TIMEOUT, logged};
use crate::variants::{Runs, deaf, reachable};

const TEMPLATE: &str = "template.yml";

/// The names of the files in `statemachines/`, without `.asl.json`.
fn machines(stack: &Stack) -> Vec<String> {
    let files = fs::read_dir(stack.project.file("statemachines")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| name.strip_suffix(".asl.json").map(str::to_owned)).collect()
}

/// How an execution ends: its output, or its error and a part of its cause.
enum Ends {
    With(Value),
    In(&'static str, &'static str),
}
use Ends::{In, With};

fn check(what: &str, finished: &Finished, ends: &Ends) {
    match ends {
        With(output) => {
            assert_eq!(finished.status, "SUCCEEDED", "{what}: {finished:?}");
            let found: Value = serde_json::from_str(finished.output.as_deref().unwrap()).unwrap();
            assert_eq!(found, *output, "{what}");
        }
        In(error, cause) => {
            assert_eq!(finished.status, "FAILED", "{what}: {finished:?}");
            assert_eq!(finished.error.as_deref(), Some(*error), "{what}: {finished:?}");
            assert!(finished.cause.as_deref().unwrap_or_default().contains(cause), "{what}: {finished:?}");
        }
    }
}

/// How the execution of each file in `events/statemachines` ends.
fn samples() -> Vec<(&'static str, &'static str, Ends)> {
    let dojo = |step: u8, invoke: Value| {
        let one = json!({"description": "Dojo Step Functions", "step": step, "IsInvokeLambda": invoke});
        With(json!([one, one]))
    };
    let done = |result: u8| json!({"status": "SUCCEEDED", "result": result});
    let add_failed =
        json!({"status": "FAILED", "error": "Add.NotANumber", "cause": "b must be a number, such as 15"});
    let job = |a: Value, b: Value| json!({"tenant": "tenant1", "input": {"a": a, "b": b}});
    let no_count = In("StepCounter.InvalidInput", "Input.step is a string; it must be a whole number");
    vec![
        ("dojo", "true", dojo(2, json!("true"))),
        ("dojo", "false", dojo(1, json!("false"))),
        ("dojo", "boolean-true", dojo(2, json!(true))),
        ("dojo", "boolean-false", dojo(1, json!(false))),
        ("dojo", "not-a-number", In("StepCounter.InvalidInput", "Error in dojo :( ")),
        (
            "orchestrate",
            "third-adds-both",
            With(json!({"description": "nightly sum", "lastRun": 41, "job": {"a": 15, "b": 42},
                "run": {"step": 42}, "sum": {"result": 57}, "total": {"result": 99}})),
        ),
        ("orchestrate", "no-number", no_count),
        (
            "branch",
            "small",
            With(json!({"invoice": "4711", "net": 80, "tax": 15.2, "decision": "paid at once"})),
        ),
        (
            "branch",
            "large",
            With(json!({"invoice": "4712", "net": 1000, "tax": 190, "booked": {"result": 1190},
                "decision": "booked on premises"})),
        ),
        ("branch", "negative", In("Branch.InvalidInvoice", "net must be a number")),
        ("branch", "bad-tax", In("Branch.InvalidInvoice", "net must be a number")),
        ("branch", "empty", In("Branch.InvalidInvoice", "net must be a number")),
        (
            "handle-errors",
            "booked",
            With(json!({"balance": 100, "amount": 20, "fee": 1, "booked": {"result": 120},
                "charged": {"result": 121}})),
        ),
        ("handle-errors", "refused", In("HandleErrors.Refused", "b must be a number")),
        (
            "handle-errors",
            "undone",
            In("HandleErrors.Undone", "(Add.NotANumber) and the balance is 100 again"),
        ),
        (
            "approve",
            "approved",
            With(json!({"question": "Restart line 7? It stands for 20 minutes.", "job": {"a": 15, "b": 42},
                "approval": {"decision": "APPROVED"}, "lambdaOutput": {"result": 57}})),
        ),
        ("approve", "rejected", In("Approval.Rejected", "a person rejected it")),
        ("parallel", "both", With(json!({"one": done(57), "two": done(3)}))),
        ("parallel", "one-fails", With(json!({"one": done(57), "two": add_failed}))),
        ("parallel", "none", In("Parallel.NoneAnswered", "Add.NotANumber; Add.NotANumber")),
        (
            "fan-out",
            "all",
            With(json!({"jobs": [job(json!(1), json!(1)), job(json!(2), json!(2)), job(json!(3), json!(3))],
                "results": [done(2), done(4), done(6)]})),
        ),
        (
            "fan-out",
            "one-fails",
            With(json!({"toleratedFailures": 1,
                "jobs": [job(json!(1), json!(1)), job(json!(2), json!("two")), job(json!(3), json!(3))],
                "results": [done(2), add_failed, done(6)]})),
        ),
        ("fan-out", "too-many-fail", In("FanOut.TooManyFailed", "1 of 2 jobs failed; the first: b must be")),
        ("fan-out", "missing-list", In("States.ItemReaderFailed", "")),
        ("on-prem-job", "sum", With(json!({"a": 15, "b": 42, "lambdaOutput": {"result": 57}}))),
        ("on-prem-job", "not-a-number", In("Add.NotANumber", "a must be a number")),
    ]
}

/// What a machine does when a function is throttled, or a worker is not there: the machine, the state to begin
/// with (empty: its own), the input, the error of each.
const LOST: &[(&str, &str, &str, &str, &str)] = &[
    ("dojo", "", r#"{"step":1}"#, THROTTLED, ""),
    ("orchestrate", "", r#"{"description":"d","lastRun":1,"job":{"a":1,"b":2}}"#, THROTTLED, ""),
    ("orchestrate", "Run the Job", r#"{"job":{"a":1,"b":2}}"#, THROTTLED, SILENT),
    ("orchestrate", "Add the Run's Number", r#"{"sum":{"result":1},"run":{"step":2}}"#, THROTTLED, SILENT),
    ("branch", "", r#"{"net":100,"tax":1}"#, THROTTLED, SILENT),
    ("handle-errors", "", r#"{"balance":1,"amount":1,"fee":1}"#, THROTTLED, SILENT),
    (
        "handle-errors",
        "Charge the Fee",
        r#"{"balance":1,"booked":{"result":2},"fee":1}"#,
        "HandleErrors.UndoFailed",
        "HandleErrors.UndoFailed",
    ),
    ("approve", "", r#"{"question":"?","job":{}}"#, THROTTLED, ""),
    ("approve", "Run the Job", r#"{"job":{"a":1,"b":2}}"#, THROTTLED, SILENT),
    (
        "parallel",
        "",
        r#"{"one":{"tenant":"t","input":1},"two":{"tenant":"t","input":2}}"#,
        "Parallel.NoneAnswered",
        "Parallel.NoneAnswered",
    ),
    ("fan-out", "", r#"{"jobs":[{"tenant":"t","input":1}]}"#, "FanOut.TooManyFailed", "FanOut.TooManyFailed"),
    ("fan-out", "", r#"{"bucket":"BUCKET","key":"jobs.json"}"#, EXCEEDED, EXCEEDED),
    ("on-prem-job", "", r#"{"a":1,"b":2}"#, THROTTLED, SILENT),
];
const THROTTLED: &str = "Lambda.TooManyRequestsException";
const SILENT: &str = "States.HeartbeatTimeout";
const EXCEEDED: &str = "States.ExceedToleratedFailureThreshold";

#[tokio::test(flavor = "multi_thread")]
async fn every_sample_ends_as_it_should_and_every_retry_and_catch_is_reached() {
    let mut stack = Stack::without_waits("machines", Deployment::new("test")).await;
    stack.worker().await;
    let mut runs = Runs::new(&stack.emulator.sdk_config().await);
    run_samples(&stack, &mut runs).await;
    run_lists_from_s3(&stack, &mut runs).await;
    run_the_rest(&stack, &mut runs).await;
    let throttled = throttled(&stack).await;
    for (machine, start, input, if_throttled, if_silent) in LOST {
        for (outputs, error, silent) in [(&throttled, if_throttled, false), (&stack.outputs, if_silent, true)]
        {
            if error.is_empty() {
                continue;
            }
            let input = input.replace("BUCKET", outputs.get("JobListBucketName"));
            if input.contains("bucket") {
                let list = r#"[{"tenant":"t","input":1}]"#;
                stack.emulator.put(outputs.get("JobListBucketName"), "jobs.json", list).await.unwrap();
            }
            let change = |definition: &mut Value| {
                if !start.is_empty() {
                    definition["StartAt"] = json!(start);
                }
                if silent {
                    deaf(definition);
                }
            };
            let finished = runs.run_changed(machine, outputs.machine(machine), &input, change).await;
            check(&format!("{machine} {start}, silent: {silent}"), &finished, &In(error, ""));
        }
    }
    let mut missed = Vec::new();
    for machine in machines(&stack) {
        let all = reachable(&runs.definition(stack.outputs.machine(&machine)).await);
        missed.extend(all.iter().map(|rule| format!("{machine}: {rule}")));
    }
    assert!(missed.len() > 30, "the rules are found: {missed:?}");
    missed.retain(|rule| !runs.reached.contains(rule));
    assert!(missed.is_empty(), "reached by nothing: {missed:#?}");
}

/// A second stack whose functions are throttled: their reserved concurrency is 0.
async fn throttled(stack: &Stack) -> Outputs {
    let mut deployment = Deployment::new("throttled");
    for description in [
        "Description: Publishes a task as a job for a worker over MQTT",
        "Description: Counts a step, as in the tutorial of the Dojo",
        "Description: Makes links that approve or reject a task, and serves their page",
    ] {
        let none = format!("{description}\n      ReservedConcurrentExecutions: 0");
        deployment = deployment.edit(TEMPLATE, description, &none);
    }
    stack.emulator.deploy(&deployment).await.unwrap()
}

async fn run_samples(stack: &Stack, runs: &mut Runs) {
    let mut run = BTreeSet::new();
    for (machine, name, ends) in samples() {
        let path = format!("events/statemachines/{machine}/{name}.json");
        let input = fs::read_to_string(stack.project.file(&path)).unwrap();
        let arn = stack.outputs.machine(machine);
        let execution = runs.executions.start(arn, &input).await.unwrap();
        if machine == "approve" {
            let links = links(runs, &execution).await;
            decide(links[if name == "approved" { "Approve" } else { "Reject" }].as_str().unwrap());
        }
        let finished = runs.end(machine, arn, &execution).await;
        check(&path, &finished, &ends);
        run.insert(path);
    }
    for machine in machines(stack) {
        let folder = format!("events/statemachines/{machine}");
        for file in fs::read_dir(stack.project.file(&folder)).unwrap().map(Result::unwrap) {
            // `sample.json` is a link to the sample that `make run` takes unless another is named.
            if file.file_type().unwrap().is_symlink() {
                continue;
            }
            let path = format!("{folder}/{}", file.file_name().to_str().unwrap());
            assert!(run.contains(&path), "{path} is in no row of the table");
        }
    }
}

/// The links of an approval that waits.
async fn links(runs: &Runs, execution: &str) -> Value {
    let submitted = HistoryEventType::TaskSubmitted;
    let events = runs.executions.happened(execution, &submitted, 1, TIMEOUT).await.unwrap();
    let output = events[0].task_submitted_event_details().unwrap().output().unwrap();
    serde_json::from_str::<Value>(output).unwrap()["Payload"].clone()
}

/// Decides as a browser does: it reads the page, then posts the form. A mail scanner only reads the page.
fn decide(link: &str) {
    let agent =
        ureq::Agent::new_with_config(ureq::Agent::config_builder().http_status_as_error(false).build());
    for _ in 0..2 {
        let mut page = agent.get(link).call().unwrap();
        assert_eq!(page.status(), 200);
        assert!(page.body_mut().read_to_string().unwrap().contains("Nothing is decided until"));
    }
    assert_eq!(agent.post(link).send_empty().unwrap().status(), 200);
    let mut again = agent.post(link).send_empty().unwrap();
    assert_eq!(again.status(), 409);
    assert!(again.body_mut().read_to_string().unwrap().contains("Already decided"));
    let turned = link.replace("d=approve", "d=turned").replace("d=reject", "d=approve");
    assert_eq!(agent.post(&turned).send_empty().unwrap().status(), 403);
}

async fn run_lists_from_s3(stack: &Stack, runs: &mut Runs) {
    let bucket = stack.outputs.get("JobListBucketName");
    let input = json!({"bucket": bucket, "key": "jobs.json"});
    // One of eleven is below a tenth that fails, two are not.
    for (failing, ends) in [(1, With(input.clone())), (2, In(EXCEEDED, ""))] {
        let jobs: Vec<Value> = (0..11)
            .map(|b| json!({"tenant": "tenant1", "input": {"a": if b < failing { json!("x") } else { json!(1) }, "b": b}}))
            .collect();
        stack.emulator.put(bucket, "jobs.json", &json!(jobs).to_string()).await.unwrap();
        let finished = runs.run("fan-out", stack.outputs.machine("fan-out"), &input.to_string()).await;
        check("fan-out from S3", &finished, &ends);
    }
}

async fn run_the_rest(stack: &Stack, runs: &mut Runs) {
    let nobody = In("Approval.Expired", "nobody answered in time");
    let soon = |definition: &mut Value| definition["States"]["Ask"]["TimeoutSeconds"] = json!(1);
    let input = r#"{"question":"?","job":{}}"#;
    let finished = runs.run_changed("approve", stack.outputs.machine("approve"), input, soon).await;
    check("approve, too late", &finished, &nobody);
    let large = json!({"a": "x".repeat(150_000)}).to_string();
    let finished = runs.run("on-prem-job", stack.outputs.state_machine(), &large).await;
    check("on-prem-job, too large", &finished, &In("Dispatcher.PayloadTooLarge", ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tenants_workers_answer_in_parallel() {
    let mut stack = Stack::start("two-tenants").await;
    stack.worker().await;
    let files = stack.emulator.enroll(&stack.outputs, Some(("plant-7", "plant-7"))).await.unwrap();
    let plant = files.start(&stack.project.program("postern-worker"), &[]).unwrap();
    logged(&plant, r#""message":"subscribed""#).await;
    let input = json!({"one": {"tenant": "tenant1", "input": {"a": 1, "b": 2}},
        "two": {"tenant": "plant-7", "input": {"a": 3, "b": 4}}});
    let machine = stack.outputs.machine("parallel");
    let execution = stack.executions.start(machine, &input.to_string()).await.unwrap();
    let done = |result: u8| json!({"status": "SUCCEEDED", "result": result});
    check("parallel", &stack.end(&execution).await, &With(json!({"one": done(3), "two": done(7)})));
    assert_eq!(plant.logs().matches("job received").count(), 1, "each worker ran its own tenant's job");
}

const COUNT: &str =
    "Action: lambda:InvokeFunction\n                Resource: !GetAtt StepCounterFunction.Arn\n";

#[tokio::test(flavor = "multi_thread")]
async fn the_dojos_first_run_without_the_permission_fails_at_once_and_the_second_succeeds() {
    let missing = COUNT.replace("lambda:InvokeFunction", "lambda:GetFunction");
    let stack = Stack::with("dojo", Deployment::new("test").edit(TEMPLATE, COUNT, &missing)).await;
    let input = fs::read_to_string(stack.project.file("events/statemachines/dojo/true.json")).unwrap();
    let machine = stack.outputs.machine("dojo").to_owned();
    let first = stack.executions.start(&machine, &input).await.unwrap();
    let ends = In("Lambda.AWSLambdaException", "Error in dojo :( User: ");
    check("the first run", &stack.end(&first).await, &ends);
    let history = stack.executions.history(&first).await.unwrap();
    let count = |what: &HistoryEventType| history.iter().filter(|event| event.r#type() == what).count();
    assert_eq!(count(&HistoryEventType::TaskScheduled), 1, "no retry");
    assert_eq!(count(&HistoryEventType::FailStateEntered), 1);

    // The tutorial now adds the policy to the role; a deployment does the same.
    let outputs = stack.emulator.deploy(&Deployment::new("test")).await.unwrap();
    assert_eq!(outputs.machine("dojo"), machine, "it is the same machine");
    let second = stack.executions.start(&machine, &input).await.unwrap();
    let step = json!({"description": "Dojo Step Functions", "step": 2, "IsInvokeLambda": "true"});
    check("the second run", &stack.end(&second).await, &With(json!([step, step])));
}

/// `make run TARGET=aws` finds the machine in the stack's resources, as it does in AWS.
#[tokio::test(flavor = "multi_thread")]
async fn run_prints_the_states_and_its_exit_status_says_how_it_ended() {
    let stack = Stack::without_waits("run", Deployment::new("test")).await;
    let run = |machine: &str, input: &str| {
        let mut command = std::process::Command::new(stack.project.program("postern-local"));
        command.args(["run", "--target", "aws", "--stack", "test", "--machine", machine]);
        command.env("POSTERN_INPUT", input).current_dir(stack.project.file(""));
        command.envs(stack.emulator.environment());
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, stdout) = run("dojo", "events/statemachines/dojo/true.json");
    assert_eq!(code, Some(0), "{stdout}");
    for line in
        ["state entered      Step - Invoke Lambda", "state left         Step - Invoke Lambda", "\noutput\n"]
    {
        assert!(stdout.contains(line), "{stdout}");
    }
    let (code, stdout) = run("branch", "events/statemachines/branch/negative.json");
    assert_eq!(code, Some(1), "{stdout}");
    assert!(stdout.contains("FAILED: Branch.InvalidInvoice\n  net must be"), "{stdout}");
    let (code, stdout) = run("no-such-machine", "events/statemachines/branch/negative.json");
    assert_eq!(code, Some(1));
    assert!(
        stdout.contains("The stack test has no state machine no-such-machine. It has: approve, "),
        "{stdout}"
    );

    let (code, stdout) = run("dojo", "");
    assert!(code == Some(0) && stdout.contains(r#""step": 1"#), "the machine's own sample: {stdout}");
    let (code, stdout) = run("dojo", "events/none.json");
    assert_eq!((code, stdout.as_str()), (Some(1), "\nFAILED: INPUT: there is no file events/none.json\n"));
    let (code, stdout) = run("dojo", "{'step':1}");
    assert!(code == Some(1) && stdout.contains("INPUT is neither a file nor valid JSON"), "{stdout}");
}
