//! The samples of the state machines in `events/statemachines/`, and how their executions end.

use postern_local::Finished;
use serde_json::{Value, json};

use Ending::{Fails, Succeeds};

/// How an execution ends.
#[derive(Debug, Clone)]
pub enum Ending {
    /// It succeeds with this output.
    Succeeds(Value),
    /// It fails with this error, and its cause contains this text.
    Fails(&'static str, &'static str),
}

impl Ending {
    /// The difference between the end of an execution and this one, if there is one.
    pub fn difference(&self, finished: &Finished) -> Option<String> {
        let same = match self {
            Succeeds(output) => {
                let found = finished.output.as_deref().and_then(|text| serde_json::from_str(text).ok());
                finished.status == "SUCCEEDED" && found.as_ref() == Some(output)
            }
            Fails(error, cause) => {
                finished.status == "FAILED"
                    && finished.error.as_deref() == Some(*error)
                    && finished.cause.as_deref().unwrap_or_default().contains(cause)
            }
        };
        (!same).then(|| format!("expected {self:?}, found {finished:?}"))
    }

    /// The same end in the executions of another tenant: `tenant1` is the tenant of the samples.
    #[must_use]
    pub fn of_tenant(&self, tenant: &str) -> Self {
        match self {
            Succeeds(output) => {
                let text = in_tenant(&output.to_string(), tenant);
                Succeeds(serde_json::from_str(&text).unwrap_or_default())
            }
            Fails(error, cause) => Fails(error, cause),
        }
    }
}

/// The text of a sample or of its output, with another tenant.
pub fn in_tenant(json: &str, tenant: &str) -> String {
    json.replace("\"tenant1\"", &format!("\"{tenant}\""))
}

/// A sample: its state machine, its name, and how its execution ends.
pub type Sample = (&'static str, &'static str, Ending);

/// Every file in `events/statemachines/`.
pub fn samples() -> Vec<Sample> {
    [single_jobs(), counted_steps(), decisions(), many_jobs()].into_iter().flatten().collect()
}

fn single_jobs() -> Vec<Sample> {
    vec![
        ("on-prem-job", "sum", Succeeds(json!({"a": 15, "b": 42, "lambdaOutput": {"result": 57}}))),
        ("on-prem-job", "not-a-number", Fails("Add.NotANumber", "a must be a number")),
    ]
}

fn counted_steps() -> Vec<Sample> {
    let dojo = |step: u8, invoke: Value| {
        let one = json!({"description": "Dojo Step Functions", "step": step, "IsInvokeLambda": invoke});
        Succeeds(json!([one, one]))
    };
    let no_count = Fails("StepCounter.InvalidInput", "Input.step is a string; it must be a whole number");

    vec![
        ("dojo", "true", dojo(2, json!("true"))),
        ("dojo", "false", dojo(1, json!("false"))),
        ("dojo", "boolean-true", dojo(2, json!(true))),
        ("dojo", "boolean-false", dojo(1, json!(false))),
        ("dojo", "not-a-number", Fails("StepCounter.InvalidInput", "Error in dojo :( ")),
        (
            "orchestrate",
            "third-adds-both",
            Succeeds(json!({"description": "nightly sum", "lastRun": 41, "job": {"a": 15, "b": 42},
                "run": {"step": 42}, "sum": {"result": 57}, "total": {"result": 99}})),
        ),
        ("orchestrate", "no-number", no_count),
    ]
}

fn decisions() -> Vec<Sample> {
    vec![
        (
            "branch",
            "small",
            Succeeds(json!({"invoice": "4711", "net": 80, "tax": 15.2, "decision": "paid at once"})),
        ),
        (
            "branch",
            "large",
            Succeeds(json!({"invoice": "4712", "net": 1000, "tax": 190, "booked": {"result": 1190},
                "decision": "booked on premises"})),
        ),
        ("branch", "negative", Fails("Branch.InvalidInvoice", "net must be a number")),
        ("branch", "bad-tax", Fails("Branch.InvalidInvoice", "net must be a number")),
        ("branch", "empty", Fails("Branch.InvalidInvoice", "net must be a number")),
        (
            "handle-errors",
            "booked",
            Succeeds(json!({"balance": 100, "amount": 20, "fee": 1, "booked": {"result": 120},
                "charged": {"result": 121}})),
        ),
        ("handle-errors", "refused", Fails("HandleErrors.Refused", "b must be a number")),
        (
            "handle-errors",
            "undone",
            Fails("HandleErrors.Undone", "(Add.NotANumber) and the balance is 100 again"),
        ),
        (
            "approve",
            "approved",
            Succeeds(
                json!({"question": "Restart line 7? It stands for 20 minutes.", "job": {"a": 15, "b": 42},
                "approval": {"decision": "APPROVED"}, "lambdaOutput": {"result": 57}}),
            ),
        ),
        ("approve", "rejected", Fails("Approval.Rejected", "a person rejected it")),
    ]
}

fn many_jobs() -> Vec<Sample> {
    let done = |result: u8| json!({"status": "SUCCEEDED", "result": result});
    let add_failed =
        json!({"status": "FAILED", "error": "Add.NotANumber", "cause": "b must be a number, such as 15"});
    let job = |a: Value, b: Value| json!({"tenant": "tenant1", "input": {"a": a, "b": b}});

    vec![
        ("parallel", "both", Succeeds(json!({"one": done(57), "two": done(3)}))),
        ("parallel", "one-fails", Succeeds(json!({"one": done(57), "two": add_failed}))),
        ("parallel", "none", Fails("Parallel.NoneAnswered", "Add.NotANumber; Add.NotANumber")),
        (
            "fan-out",
            "all",
            Succeeds(
                json!({"jobs": [job(json!(1), json!(1)), job(json!(2), json!(2)), job(json!(3), json!(3))],
                "results": [done(2), done(4), done(6)]}),
            ),
        ),
        (
            "fan-out",
            "one-fails",
            Succeeds(json!({"toleratedFailures": 1,
                "jobs": [job(json!(1), json!(1)), job(json!(2), json!("two")), job(json!(3), json!(3))],
                "results": [done(2), add_failed, done(6)]})),
        ),
        (
            "fan-out",
            "too-many-fail",
            Fails("FanOut.TooManyFailed", "1 of 2 jobs failed; the first: b must be"),
        ),
        ("fan-out", "missing-list", Fails("States.ItemReaderFailed", "")),
    ]
}
