//! The state machines: every sample of every use case, every `Retry` and `Catch`, and the two runs of the Dojo's
//! tutorial.

use std::fs;

use aws_sdk_sfn::types::HistoryEventType;
use postern_local::{Deployment, Outputs, Plant};
use serde_json::{Value, json};

use crate::plant;
use crate::samples::Ending::{Fails, Succeeds};
use crate::samples::{assert_ends, samples};
use crate::stack::{Stack, TIMEOUT, logged};
use crate::variants::{Runs, reachable, without_worker};

const TEMPLATE: &str = "template.yml";

/// The names of the files in `statemachines/`, without `.asl.json`.
fn machines(stack: &Stack) -> Vec<String> {
    let files = fs::read_dir(stack.project.file("statemachines")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| name.strip_suffix(".asl.json").map(str::to_owned)).collect()
}

/// The errors of the machines when their functions are throttled and when no worker answers: the machine, the state to
/// start at (empty for the machine's own), the input, the error with throttled functions, and the error without a
/// worker. An empty error means that the case does not occur.
const OUTAGES: &[(&str, &str, &str, &str, &str)] = &[
    ("dojo", "", r#"{"step":1}"#, THROTTLED, ""),
    ("orchestrate", "", r#"{"description":"d","lastRun":1,"job":{"a":1,"b":2}}"#, THROTTLED, ""),
    ("orchestrate", "Run the Job", r#"{"job":{"a":1,"b":2}}"#, THROTTLED, HEARTBEAT_TIMEOUT),
    (
        "orchestrate",
        "Add the Run's Number",
        r#"{"sum":{"result":1},"run":{"step":2}}"#,
        THROTTLED,
        HEARTBEAT_TIMEOUT,
    ),
    ("branch", "", r#"{"net":100,"tax":1}"#, THROTTLED, HEARTBEAT_TIMEOUT),
    ("handle-errors", "", r#"{"balance":1,"amount":1,"fee":1}"#, THROTTLED, HEARTBEAT_TIMEOUT),
    (
        "handle-errors",
        "Charge the Fee",
        r#"{"balance":1,"booked":{"result":2},"fee":1}"#,
        "HandleErrors.UndoFailed",
        "HandleErrors.UndoFailed",
    ),
    ("approve", "", r#"{"question":"?","job":{}}"#, THROTTLED, ""),
    ("approve", "Run the Job", r#"{"job":{"a":1,"b":2}}"#, THROTTLED, HEARTBEAT_TIMEOUT),
    (
        "parallel",
        "",
        r#"{"one":{"tenant":"t","input":1},"two":{"tenant":"t","input":2}}"#,
        "Parallel.NoneAnswered",
        "Parallel.NoneAnswered",
    ),
    ("fan-out", "", r#"{"jobs":[{"tenant":"t","input":1}]}"#, "FanOut.TooManyFailed", "FanOut.TooManyFailed"),
    ("fan-out", "", r#"{"bucket":"BUCKET","key":"jobs.json"}"#, TOLERANCE_EXCEEDED, TOLERANCE_EXCEEDED),
    ("on-prem-job", "", r#"{"a":1,"b":2}"#, THROTTLED, HEARTBEAT_TIMEOUT),
];
const THROTTLED: &str = "Lambda.TooManyRequestsException";
const HEARTBEAT_TIMEOUT: &str = "States.HeartbeatTimeout";
const TOLERANCE_EXCEEDED: &str = "States.ExceedToleratedFailureThreshold";

#[tokio::test(flavor = "multi_thread")]
async fn every_sample_ends_as_expected_and_every_retry_and_catch_is_reached() {
    let mut stack = Stack::without_waits("machines", with_all_machines("test")).await;
    Plant::install(&stack.files).unwrap();
    stack.worker().await;

    let mut runs = Runs::new(&stack.emulator.sdk_config());
    run_samples(&stack, &mut runs).await;
    run_lists_from_s3(&stack, &mut runs).await;
    run_expired_and_refused(&stack, &mut runs).await;
    run_outages(&stack, &mut runs).await;

    let mut missed = Vec::new();

    for machine in machines(&stack) {
        let all = reachable(&runs.definition(stack.outputs.machine(&machine)).await);
        missed.extend(all.iter().map(|rule| format!("{machine}: {rule}")));
    }
    assert!(missed.len() > 30, "too few rules were found: {missed:?}");

    missed.retain(|rule| !runs.reached.contains(rule));
    assert!(missed.is_empty(), "no execution reached these rules: {missed:#?}");
}

/// Runs every row of [`OUTAGES`]: in a stack whose functions are throttled, and without a worker.
async fn run_outages(stack: &Stack, runs: &mut Runs) {
    let throttled = throttled(stack).await;
    for outputs in [&throttled, &stack.outputs] {
        let list = r#"[{"tenant":"t","input":1}]"#;
        stack.emulator.put(outputs.get("JobListBucketName"), "jobs.json", list).await.unwrap();
    }

    for (machine, start, input, if_throttled, if_unanswered) in OUTAGES {
        run_outage(runs, &throttled, machine, start, input, if_throttled, |_| {}).await;
        run_outage(runs, &stack.outputs, machine, start, input, if_unanswered, without_worker).await;
    }
    plant::run_outages(stack, runs, &throttled).await;
}

/// Runs a machine from the state `start`, in the stack with these outputs. It must fail with `error`.
async fn run_outage(
    runs: &mut Runs,
    outputs: &Outputs,
    machine: &str,
    start: &str,
    input: &str,
    error: &'static str,
    change: impl Fn(&mut Value),
) {
    if error.is_empty() {
        return;
    }

    let input = input.replace("BUCKET", outputs.get("JobListBucketName"));
    let change = |definition: &mut Value| {
        if !start.is_empty() {
            definition["StartAt"] = json!(start);
        }
        change(definition);
    };
    let finished = runs.run_changed(machine, outputs.machine(machine), &input, change).await;
    assert_ends(&format!("{machine} {start}, with {error}"), &finished, &Fails(error, ""));
}

/// A second stack whose functions are throttled: their reserved concurrency is 0.
async fn throttled(stack: &Stack) -> Outputs {
    let deployment = with_all_machines("throttled").parameter("ReservedConcurrency", "0");
    stack.emulator.deploy(&deployment).await.unwrap()
}

/// A stack with all state machines.
fn with_all_machines(name: &str) -> Deployment {
    Deployment::new(name).parameter("Approvals", "true").parameter("ClaimCheck", "true")
}

/// Runs every row of [`samples`], and checks that every file has a row.
async fn run_samples(stack: &Stack, runs: &mut Runs) {
    let mut run = plant::run_samples(stack, runs).await;
    for (machine, name, ending) in samples() {
        let path = format!("events/statemachines/{machine}/{name}.json");
        let input = fs::read_to_string(stack.project.file(&path)).unwrap();
        let arn = stack.outputs.machine(machine);
        let execution = runs.executions.start(arn, &input).await.unwrap();
        if machine == "approve" {
            let links = links(runs, &execution).await;
            decide(links[if name == "approved" { "Approve" } else { "Reject" }].as_str().unwrap());
        }

        let finished = runs.end(machine, arn, &execution).await;
        assert_ends(&path, &finished, &ending);
        run.insert(path);
    }

    for machine in machines(stack) {
        let folder = format!("events/statemachines/{machine}");
        for file in fs::read_dir(stack.project.file(&folder)).unwrap().map(Result::unwrap) {
            // `sample.json` is a symbolic link to the default sample of `make run`.
            if file.file_type().unwrap().is_symlink() {
                continue;
            }

            let path = format!("{folder}/{}", file.file_name().to_str().unwrap());
            assert!(run.contains(&path), "{path} is missing in the table of samples");
        }
    }
}

/// The links of a waiting approval, by their decision.
async fn links(runs: &Runs, execution: &str) -> Value {
    let submitted = HistoryEventType::TaskSubmitted;
    let events = runs.executions.happened(execution, &submitted, 1, TIMEOUT).await.unwrap();
    let output = events[0].task_submitted_event_details().unwrap().output().unwrap();
    serde_json::from_str::<Value>(output).unwrap()["Payload"].clone()
}

/// Decides as a browser does: reads the page, then posts the form. Reading the page alone, as mail scanners do, decides
/// nothing. A second decision and a link with a changed decision are refused.
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

    let forged = link.replace("d=approve", "d=forged").replace("d=reject", "d=approve");
    assert_eq!(agent.post(&forged).send_empty().unwrap().status(), 403);
}

/// Runs fan-out over lists in S3, with as many failures as it tolerates and with one more.
async fn run_lists_from_s3(stack: &Stack, runs: &mut Runs) {
    let bucket = stack.outputs.get("JobListBucketName");
    let input = json!({"bucket": bucket, "key": "jobs.json"});
    // A tenth of the jobs may fail: one of eleven is tolerated, two are not.
    for (failing, ending) in [(1, Succeeds(input.clone())), (2, Fails(TOLERANCE_EXCEEDED, ""))] {
        let jobs: Vec<Value> = (0..11)
            .map(|b| json!({"tenant": "tenant1", "input": {"a": if b < failing { json!("x") } else { json!(1) }, "b": b}}))
            .collect();

        stack.emulator.put(bucket, "jobs.json", &json!(jobs).to_string()).await.unwrap();
        let finished = runs.run("fan-out", stack.outputs.machine("fan-out"), &input.to_string()).await;
        assert_ends("fan-out from S3", &finished, &ending);
    }
}

/// Runs an approval without a decision, and a job whose tenant has no valid name.
async fn run_expired_and_refused(stack: &Stack, runs: &mut Runs) {
    let expired = Fails("Approval.Expired", "the job was neither approved nor rejected in time");
    let soon = |definition: &mut Value| definition["States"]["Ask"]["TimeoutSeconds"] = json!(1);
    let input = r#"{"question":"?","job":{}}"#;
    let finished = runs.run_changed("approve", stack.outputs.machine("approve"), input, soon).await;
    assert_ends("approve, too late", &finished, &expired);

    let no_tenant = |definition: &mut Value| {
        let job = &mut definition["States"]["Dispatch Job to On-Premises"]["Parameters"]["Payload"]["Job"];
        job["Tenant"] = json!("two/levels");
    };
    let finished =
        runs.run_changed("on-prem-job", stack.outputs.state_machine(), r#"{"a":1,"b":2}"#, no_tenant).await;
    assert_ends("on-prem-job, refused", &finished, &Fails("Dispatcher.InvalidInput", ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_of_two_tenants_run_the_branches_of_one_execution() {
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
    assert_ends("parallel", &stack.end(&execution).await, &Succeeds(json!({"one": done(3), "two": done(7)})));
    assert_eq!(
        plant.logs().matches("job received").count(),
        1,
        "the worker of plant-7 ran only its tenant's job"
    );
}

/// The statement that allows the Dojo's machine to invoke its function.
const INVOKE_STEP_COUNTER: &str =
    "Action: lambda:InvokeFunction\n                Resource: !GetAtt StepCounterFunction.Arn\n";

#[tokio::test(flavor = "multi_thread")]
async fn the_dojos_run_fails_without_the_permission_and_succeeds_once_it_is_granted() {
    let missing = INVOKE_STEP_COUNTER.replace("lambda:InvokeFunction", "lambda:GetFunction");
    let stack =
        Stack::with("dojo", Deployment::new("test").edit(TEMPLATE, INVOKE_STEP_COUNTER, &missing)).await;
    let input = fs::read_to_string(stack.project.file("events/statemachines/dojo/true.json")).unwrap();
    let machine = stack.outputs.machine("dojo").to_owned();

    let first = stack.executions.start(&machine, &input).await.unwrap();
    let ending = Fails("Lambda.AWSLambdaException", "Error in dojo :( User: ");
    assert_ends("the first run", &stack.end(&first).await, &ending);

    let history = stack.executions.history(&first).await.unwrap();
    let count = |what: &HistoryEventType| history.iter().filter(|event| event.r#type() == what).count();
    assert_eq!(count(&HistoryEventType::TaskScheduled), 1, "the task is not retried");
    assert_eq!(count(&HistoryEventType::FailStateEntered), 1);

    // The tutorial now adds the policy to the role. This deployment does the same.
    let outputs = stack.emulator.deploy(&Deployment::new("test")).await.unwrap();
    assert_eq!(outputs.machine("dojo"), machine, "the deployment must keep the machine");
    let second = stack.executions.start(&machine, &input).await.unwrap();
    let step = json!({"description": "Dojo Step Functions", "step": 2, "IsInvokeLambda": "true"});
    assert_ends("the second run", &stack.end(&second).await, &Succeeds(json!([step, step])));
}

/// The command is that of `make run TARGET=aws`, which finds the machine in the stack's resources, as on AWS.
#[tokio::test(flavor = "multi_thread")]
async fn make_run_prints_the_states_and_fails_when_the_execution_fails() {
    let stack = Stack::without_waits("run", with_all_machines("test")).await;
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
    assert!(
        code == Some(0) && stdout.contains(r#""step": 1"#),
        "the machine's own sample must run: {stdout}"
    );

    let (code, stdout) = run("dojo", "events/none.json");
    assert_eq!((code, stdout.as_str()), (Some(1), "\nFAILED: INPUT: there is no file events/none.json\n"));

    let (code, stdout) = run("dojo", "{'step':1}");
    assert!(code == Some(1) && stdout.contains("INPUT is neither a file nor valid JSON"), "{stdout}");
}
