use std::cell::RefCell;

use postern_jobs::{JobItem, MemoryJobs, NewJob, State};
use postern_runtime::NamedError as _;
use postern_runtime::iot::PublishFailed;
use postern_testing::{StubServer, config_for};
use postern_types::Tenant;

use super::*;
use crate::claim::tests::Sent;

/// A stack without a claim check. Commands are kept.
fn none() -> Claims<Sent> {
    Claims { bucket: None, commands: Sent::default() }
}

/// The workers of the tenants: the cancellations that they got.
#[derive(Default)]
struct Workers(RefCell<Vec<String>>);

impl Cancel for Workers {
    async fn cancel(&self, tenant: &Tenant, job_id: &JobId, _: &str, _: u32) -> Result<(), PublishFailed> {
        self.0.borrow_mut().push(format!("{tenant} {job_id}"));
        Ok(())
    }
}

/// A stack without the table of jobs.
const NO_TABLE: Option<&Record<MemoryJobs, Workers>> = None;

const RESULT: &str = r#"{"TaskToken":"abc","result":1}"#;

/// Delivers a result through the real client to a service that gives this answer. Returns the effect and the number of
/// calls.
async fn deliver_to_stub(status: u16, code: &'static str) -> (Result<Effect, &'static str>, usize) {
    let stub = StubServer::answering(status, code);
    let config = config_for(&stub.url(), "us-east-1", ("test", "test"));
    let event = RawValue::from_string(RESULT.to_owned()).unwrap();
    let done =
        answer(&aws_sdk_sfn::Client::new(&config), &none(), NO_TABLE, &event, Timestamp::UNIX_EPOCH).await;
    let calls = stub.requests().len();
    (done.map(|done| done.effect).map_err(|error| error.name()), calls)
}

#[tokio::test]
async fn each_reply_of_step_functions_has_its_effect() {
    assert_eq!(deliver_to_stub(200, "").await, (Ok(Effect::Succeeded), 1));
    for code in ["TaskTimedOut", "TaskDoesNotExist", "InvalidToken"] {
        assert_eq!(deliver_to_stub(400, code).await, (Ok(Effect::Closed), 1), "{code}");
    }

    for (status, code, name, attempts) in [
        (400, "ThrottlingException", "TaskTokenDone.Throttled", 3),
        (503, "ServiceUnavailable", "TaskTokenDone.Unavailable", 3),
        (500, "InternalError", "TaskTokenDone.Unavailable", 3),
        (400, "AccessDeniedException", "TaskTokenDone.AccessDenied", 1),
        (400, "KmsAccessDeniedException", "TaskTokenDone.AccessDenied", 1),
        (400, "KmsInvalidStateException", "TaskTokenDone.Refused", 1),
    ] {
        assert_eq!(deliver_to_stub(status, code).await, (Err(name), attempts), "{code}");
    }
    // The function then sends a failure instead of the result, and the stub refuses the failure as well.
    for (status, code) in
        [(400, "InvalidOutput"), (400, "ValidationException"), (413, "RequestEntityTooLarge")]
    {
        assert_eq!(deliver_to_stub(status, code).await, (Err("TaskTokenDone.Refused"), 2), "{code}");
    }
}

/// Records the calls and gives each the next reply, or `Taken` after the last one.
#[derive(Default)]
struct StepFunctions {
    calls: RefCell<Vec<String>>,
    replies: RefCell<Vec<Result<Reply, Error>>>,
}

impl StepFunctions {
    fn replying(replies: impl IntoIterator<Item = Result<Reply, Error>>) -> Self {
        Self { replies: RefCell::new(replies.into_iter().collect()), ..Self::default() }
    }

    fn note(&self, call: String) -> Result<Reply, Error> {
        self.calls.borrow_mut().push(call);
        let mut replies = self.replies.borrow_mut();
        if replies.is_empty() { Ok(Reply::Taken) } else { replies.remove(0) }
    }
}

impl Tasks for StepFunctions {
    async fn success(&self, token: &TaskToken, output: &str) -> Result<Reply, Error> {
        self.note(format!("success {} {output}", token.expose()))
    }

    async fn failure(&self, token: &TaskToken, failure: &TaskFailure) -> Result<Reply, Error> {
        self.note(format!("failure {} {} | {}", token.expose(), failure.error(), failure.cause()))
    }

    async fn heartbeat(&self, token: &TaskToken) -> Result<Reply, Error> {
        self.note(format!("heartbeat {}", token.expose()))
    }
}

async fn answer_json(tasks: &StepFunctions, event: &str) -> Result<Effect, Error> {
    let event = RawValue::from_string(event.to_owned()).unwrap();
    answer(tasks, &none(), NO_TABLE, &event, Timestamp::UNIX_EPOCH).await.map(|done| done.effect)
}

/// The calls that one event causes when Step Functions accepts them all.
async fn calls(event: &str) -> Vec<String> {
    let tasks = StepFunctions::default();
    answer_json(&tasks, event).await.unwrap();
    tasks.calls.into_inner()
}

#[tokio::test]
async fn the_samples_messages_become_a_success_and_a_failure() {
    assert_eq!(calls(r#"{"result":57,"TaskToken":"abc"}"#).await, [r#"success abc {"result":57}"#]);
    assert_eq!(
        calls(r#"{"result":null,"TaskToken":"abc","exception":"KeyError"}"#).await,
        ["failure abc KeyError | KeyError"]
    );
}

#[tokio::test]
async fn each_status_becomes_its_call() {
    assert_eq!(calls(r#"{"TaskToken":"abc","Status":"ACCEPTED"}"#).await, ["heartbeat abc"]);
    assert_eq!(calls(r#"{"TaskToken":"abc","Status":"HEARTBEAT"}"#).await, ["heartbeat abc"]);
    assert_eq!(
        calls(r#"{"TaskToken":"abc","Status":"SUCCEEDED","result":{"b":1.50,"a":12345678901234567890123}}"#)
            .await,
        [r#"success abc {"result":{"b":1.50,"a":12345678901234567890123}}"#]
    );

    assert_eq!(
        calls(r#"{"TaskToken":"abc","Status":"FAILED","Error":"Db.Locked","Cause":"row 7"}"#).await,
        ["failure abc Db.Locked | row 7"]
    );
    assert_eq!(
        calls(r#"{"TaskToken":"abc","Status":"CANCELLED","Cause":"asked to"}"#).await,
        ["failure abc Worker.Cancelled | asked to"]
    );
}

#[tokio::test]
async fn the_rules_stamps_stay_out_of_the_output() {
    let stamped =
        r#"{"result":{"x":1},"TaskToken":"abc","tenant":"t","worker":"w","certificate":"c","receivedAt":1}"#;
    assert_eq!(calls(stamped).await, [r#"success abc {"result":{"x":1}}"#]);
}

#[tokio::test]
async fn a_message_without_a_token_is_an_error_and_causes_no_call() {
    for event in ["7", "[]", "{}", r#"{"result":1,"TaskToken":null}"#, r#"{"result":1,"TaskToken":""}"#] {
        let tasks = StepFunctions::default();
        let error = answer_json(&tasks, event).await.unwrap_err();
        assert_eq!(error.name(), "TaskTokenDone.InvalidMessage", "{event}");
        assert!(tasks.calls.borrow().is_empty());
    }
}

#[tokio::test]
async fn an_answer_to_a_closed_task_is_not_an_error() {
    for event in [
        r#"{"TaskToken":"abc","result":1}"#,
        r#"{"TaskToken":"abc","exception":"E"}"#,
        r#"{"TaskToken":"abc","Status":"HEARTBEAT"}"#,
    ] {
        let tasks = StepFunctions::replying([Ok(Reply::Closed("TaskTimedOut".into()))]);
        assert_eq!(answer_json(&tasks, event).await.unwrap(), Effect::Closed, "{event}");
        assert_eq!(tasks.calls.borrow().len(), 1);
    }
}

#[tokio::test]
async fn a_throttled_result_does_not_fail_its_task() {
    let tasks = StepFunctions::replying([Err(Error::Throttled("ThrottlingException".into()))]);
    let error = answer_json(&tasks, r#"{"TaskToken":"abc","result":1}"#).await.unwrap_err();
    assert_eq!(error.name(), "TaskTokenDone.Throttled");
    assert_eq!(tasks.calls.into_inner(), [r#"success abc {"result":1}"#], "no failure is reported");
}

#[tokio::test]
async fn a_result_that_step_functions_refuses_fails_the_task() {
    let tasks = StepFunctions::replying([Ok(Reply::InvalidOutput("InvalidOutput".into()))]);
    assert_eq!(answer_json(&tasks, r#"{"TaskToken":"abc","result":1}"#).await.unwrap(), Effect::Failed);
    assert!(tasks.calls.borrow()[1].starts_with("failure abc TaskTokenDone.InvalidOutput | "));

    let with_output = |bytes: usize| {
        let result = "x".repeat(bytes - r#"{"result":""}"#.len());
        format!(r#"{{"TaskToken":"abc","result":"{result}"}}"#)
    };
    assert!(calls(&with_output(TASK_OUTPUT_BYTES)).await[0].starts_with("success abc "));
    let calls = calls(&with_output(TASK_OUTPUT_BYTES + 1)).await;
    assert_eq!(calls.len(), 1);
    assert!(calls[0].starts_with("failure abc TaskTokenDone.OutputTooLarge | the output has 262145 bytes"));
}

#[tokio::test]
async fn a_worker_that_asks_gets_a_command_and_its_task_a_heartbeat() {
    let request =
        r#"{"TaskToken":"abc","Status":"UPLOAD","Bytes":200000,"Sha256":"SUM","tenant":"t","worker":"w"}"#;
    let event = RawValue::from_string(request.replace("SUM", &"ab".repeat(32))).unwrap();

    let (tasks, claims) = (StepFunctions::default(), none());
    let effect = answer(&tasks, &claims, NO_TABLE, &event, Timestamp::UNIX_EPOCH).await.unwrap().effect;
    assert_eq!((effect, tasks.calls.borrow().len()), (Effect::Replied, 1));
    {
        let sent = claims.commands.0.borrow();
        assert_eq!((&*sent[0].0, sent[0].1.name()), ("t/to/worker/w", "REFUSED"), "there is no bucket");
    }

    let (tasks, claims) = (StepFunctions::replying([Ok(Reply::Closed("TaskTimedOut".into()))]), none());
    let effect = answer(&tasks, &claims, NO_TABLE, &event, Timestamp::UNIX_EPOCH).await.unwrap().effect;
    assert_eq!((effect, claims.commands.0.borrow().len()), (Effect::Closed, 1));
}

#[tokio::test]
async fn a_result_that_is_not_where_its_upload_went_fails_the_task() {
    let event = r#"{"TaskToken":"abc","Status":"SUCCEEDED","tenant":"t","worker":"w","ResultRef":{"Bucket":"b","Key":"t/x",
        "Bytes":7,"Sha256":"ab","ContentType":"text/csv"}}"#;
    let (tasks, event) = (StepFunctions::default(), RawValue::from_string(event.to_owned()).unwrap());
    assert_eq!(
        answer(&tasks, &none(), NO_TABLE, &event, Timestamp::UNIX_EPOCH).await.unwrap().effect,
        Effect::Failed
    );
    assert!(tasks.calls.borrow()[0].contains("TaskTokenDone.InvalidAnswer"), "{:?}", tasks.calls);
}

const JOB_ID: &str = "ba7816bf8f01cfea414140de5dae2223";

/// Answers a job that was dispatched, with the rule's stamps. Returns the job as it then is in the table, and the
/// cancellations.
async fn record_of(replies: Vec<Result<Reply, Error>>, answers: &[&str]) -> (JobItem, Vec<String>) {
    let tasks = StepFunctions::replying(replies);
    let record = Record { jobs: MemoryJobs::default(), workers: Workers::default() };
    let (tenant, job_id) = (Tenant::parse("plant-7").unwrap(), JobId::parse(JOB_ID).unwrap());
    let job = NewJob::new(tenant.clone(), job_id.clone(), Timestamp::UNIX_EPOCH);
    record.jobs.dispatched(&job).await.unwrap();

    for fields in answers {
        let event = format!(r#"{{"TaskToken":"abc",{fields},"tenant":"plant-7","worker":"w"}}"#);
        let event = RawValue::from_string(event).unwrap();
        answer(&tasks, &none(), Some(&record), &event, Timestamp::UNIX_EPOCH).await.unwrap();
    }
    let job = record.jobs.get(&tenant, &job_id).await.unwrap().unwrap();
    (job, record.workers.0.into_inner())
}

fn closed() -> Reply {
    Reply::Closed("TaskTimedOut".into())
}

const ACCEPTED: &str = r#""Status":"ACCEPTED""#;
const HEARTBEAT: &str = r#""Status":"HEARTBEAT""#;
const SUCCEEDED: &str = r#""Status":"SUCCEEDED","result":1"#;
const FAILED: &str = r#""Status":"FAILED","Error":"Db.Locked","Cause":"row 7""#;
const CANCELLED: &str = r#""Status":"CANCELLED","Cause":"stopped""#;

#[tokio::test]
async fn each_answer_is_recorded() {
    for (answers, state, error) in [
        (&[ACCEPTED][..], State::Accepted, None),
        (&[HEARTBEAT], State::Dispatched, None),
        (&[ACCEPTED, SUCCEEDED], State::Succeeded, None),
        (&[SUCCEEDED, ACCEPTED, FAILED], State::Succeeded, None),
        (&[FAILED], State::Failed, Some("Db.Locked")),
        (&[ACCEPTED, CANCELLED], State::Cancelled, Some("Worker.Cancelled")),
    ] {
        let (job, cancelled) = record_of(Vec::new(), answers).await;
        assert_eq!((job.state, job.error.as_deref()), (state, error), "{answers:?}");
        assert!(cancelled.is_empty());
        assert_eq!(job.worker.as_deref(), (state != State::Dispatched).then_some("w"));
    }
}

#[tokio::test]
async fn a_result_that_is_refused_is_a_failed_job() {
    let refused = Ok(Reply::InvalidOutput("InvalidOutput".into()));
    let (job, _) = record_of(vec![refused], &[SUCCEEDED]).await;
    assert_eq!((job.state, job.error.as_deref()), (State::Failed, Some("TaskTokenDone.InvalidOutput")));
}

#[tokio::test]
async fn a_job_that_runs_although_its_task_is_closed_is_cancelled() {
    for alive in [ACCEPTED, HEARTBEAT] {
        let (job, cancelled) = record_of(vec![Ok(closed())], &[alive]).await;
        assert_eq!(cancelled, [format!("plant-7 {JOB_ID}")]);
        assert_eq!(job.state, State::TimedOut);
    }
    for (ended, state) in [(SUCCEEDED, State::TimedOut), (CANCELLED, State::Cancelled)] {
        let (job, cancelled) = record_of(vec![Ok(closed())], &[ended]).await;
        assert_eq!((job.state, cancelled.len()), (state, 0));
    }
}

#[tokio::test]
async fn a_late_heartbeat_does_not_move_a_job_back() {
    let (job, _) = record_of(vec![Ok(Reply::Taken), Ok(closed())], &[SUCCEEDED, HEARTBEAT]).await;
    assert_eq!(job.state, State::Succeeded);
    // The heartbeat's invocation may be quicker than that of the result before it.
    let (job, _) = record_of(vec![Ok(closed()), Ok(Reply::Taken)], &[HEARTBEAT, SUCCEEDED]).await;
    assert_eq!(job.state, State::Succeeded);
}

#[tokio::test]
async fn a_table_that_fails_does_not_fail_the_answer() {
    let record = Record { jobs: MemoryJobs::unavailable(), workers: Workers::default() };
    let event = RawValue::from_string(format!(r#"{{"TaskToken":"abc",{SUCCEEDED},"tenant":"plant-7"}}"#));
    let done =
        answer(&StepFunctions::default(), &none(), Some(&record), &event.unwrap(), Timestamp::UNIX_EPOCH)
            .await;
    assert_eq!(done.unwrap().effect, Effect::Succeeded);
}
