use std::cell::RefCell;

use postern_jobs::{MemoryJobs, Progress, State};
use postern_runtime::NamedError as _;
use postern_testing::{RecordedRequest, StubServer, config_for};
use postern_types::InvalidRequest;
use postern_types::limits::IOT_PAYLOAD_BYTES;
use serde_json::{Value, json};

use super::*;

/// A stack without the table of jobs.
const NO_TABLE: Option<&MemoryJobs> = None;

/// Dispatches a job through the real client to a service that gives this answer. Returns the error's name and the requests.
async fn dispatch_to_stub(status: u16, code: &'static str) -> (Option<&'static str>, Vec<RecordedRequest>) {
    let stub = StubServer::answering(status, code);
    let sdk = config_for(&stub.url(), "us-east-1", ("test", "test"));
    let event =
        json!({"Input": 1, "TaskToken": "abc", "Job": {"TimeoutSeconds": 90, "HeartbeatSeconds": 60}});
    let event = RawValue::from_string(event.to_string()).unwrap();
    let iot = aws_sdk_iotdataplane::Client::new(&sdk);
    let done = dispatch(&iot, NO_TABLE, None, &config(&[]), &event, Timestamp::UNIX_EPOCH, None).await;
    let requests = stub.requests();
    (done.err().map(|error| error.name()), requests)
}

#[tokio::test]
async fn a_message_has_the_properties_of_the_contract() {
    let (error, requests) = dispatch_to_stub(200, "").await;
    assert_eq!((error, requests.len()), (None, 1));
    let RecordedRequest { head, body } = &requests[0];

    for part in [
        "post /topics/tenant1%2fto%2fworker?",
        "qos=1",
        "contenttype=application%2fjson",
        "messageexpiry=60",
        "x-amz-mqtt5-payload-format-indicator: utf8_data",
        // The JobId, in base64.
        &format!(
            "x-amz-mqtt5-correlation-data: {}",
            BASE64.encode("ba7816bf8f01cfea414140de5dae2223").to_lowercase()
        ),
    ] {
        assert!(head.contains(part), "{part} is not in\n{head}");
    }
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["TaskToken"], "abc");
}

#[tokio::test]
async fn each_answer_of_iot_core_becomes_an_error_with_its_name() {
    for (status, code, name, attempts) in [
        (429, "ThrottlingException", "Dispatcher.Throttled", 3),
        (503, "ServiceUnavailable", "Dispatcher.PublishFailed", 3),
        (500, "InternalFailureException", "Dispatcher.PublishFailed", 3),
        (401, "UnauthorizedException", "Dispatcher.PublishRefused", 1),
        (403, "ForbiddenException", "Dispatcher.PublishRefused", 1),
        (400, "InvalidRequestException", "Dispatcher.PublishRefused", 1),
        (413, "RequestEntityTooLargeException", "Dispatcher.PayloadTooLarge", 1),
    ] {
        let (error, requests) = dispatch_to_stub(status, code).await;
        assert_eq!((error, requests.len()), (Some(name), attempts), "{code}");
    }
}

/// A broker that keeps each message, or refuses it.
#[derive(Default)]
struct Broker {
    published: RefCell<Vec<Message>>,
    refuse: Option<fn() -> Error>,
}

impl Publish for Broker {
    async fn publish(&self, message: Message) -> Result<(), Error> {
        if let Some(error) = self.refuse {
            return Err(error());
        }
        self.published.borrow_mut().push(message);
        Ok(())
    }
}

fn config(list: &[(&str, &str)]) -> Config {
    Config::from_env(&Environment::of(list)).unwrap()
}

async fn dispatch_json(iot: &Broker, config: &Config, event: &Value) -> Result<Dispatched, Error> {
    let event = RawValue::from_string(event.to_string()).unwrap();
    dispatch(iot, NO_TABLE, None, config, &event, Timestamp::UNIX_EPOCH, None).await
}

#[tokio::test]
async fn the_samples_event_is_published_for_the_default_tenant() {
    let iot = Broker::default();
    let event = json!({"Input": {"a": 15, "b": 42}, "TaskToken": "abc"});
    let answer = dispatch_json(&iot, &config(&[]), &event).await.unwrap();
    let published = iot.published.into_inner();
    let [message] = published.as_slice() else { panic!("one message") };

    assert_eq!(message.topic.as_str(), "tenant1/to/worker");
    assert_eq!(message.expiry_seconds, None);
    assert_eq!(message.job_id.as_str(), "ba7816bf8f01cfea414140de5dae2223");
    let payload: Value = serde_json::from_slice(&message.payload).unwrap();
    assert_eq!(payload["Input"], json!({"a": 15, "b": 42}));
    assert_eq!(payload["TaskToken"], "abc");
    let bytes = message.payload.len();
    assert_eq!(
        serde_json::to_value(&answer).unwrap(),
        json!({"JobId": "ba7816bf8f01cfea414140de5dae2223", "Topic": "tenant1/to/worker", "Bytes": bytes})
    );
}

#[tokio::test]
async fn a_job_chooses_tenant_and_expiry() {
    let iot = Broker::default();
    let event = json!({"Input": 1, "TaskToken": "abc",
        "Job": {"Tenant": "plant-7", "TimeoutSeconds": 90, "HeartbeatSeconds": 30}});
    dispatch_json(&iot, &config(&[("WORKER_TOPIC", "{tenant}/jobs")]), &event).await.unwrap();
    let published = iot.published.into_inner();

    assert_eq!(published[0].topic.as_str(), "plant-7/jobs");
    assert_eq!(published[0].expiry_seconds, Some(30));
    let payload: Value = serde_json::from_slice(&published[0].payload).unwrap();
    assert_eq!(payload["Deadline"], "1970-01-01T00:01:30Z");
    assert_eq!(payload["HeartbeatSeconds"], 30);
}

#[tokio::test]
async fn an_invalid_event_is_an_error_and_is_not_published() {
    let at_the_limit = |input: usize| json!({"Input": "x".repeat(input), "TaskToken": "abc"});
    let overhead = {
        let iot = Broker::default();
        dispatch_json(&iot, &config(&[]), &at_the_limit(0)).await.unwrap().bytes
    };
    let iot = Broker::default();
    let fixed = config(&[("WORKER_TOPIC", "tenant1/to/worker")]);

    for (event, name) in [
        (json!([]), "Dispatcher.InvalidInput"),
        (json!({"Input": 1}), "Dispatcher.InvalidInput"),
        (json!({"Input": 1, "TaskToken": "t".repeat(2_049)}), "Dispatcher.InvalidInput"),
        (json!({"Input": 1, "TaskToken": "t", "Job": {"Tenant": "+"}}), "Dispatcher.InvalidInput"),
        (json!({"Input": 1, "TaskToken": "t", "Job": {"IdempotencyKey": "a b"}}), "Dispatcher.InvalidInput"),
        (json!({"Input": 1, "TaskToken": "t", "Item": "0"}), "Dispatcher.InvalidInput"),
        (json!({"Input": 1, "TaskToken": "t", "Job": {"Tenant": "other"}}), "Dispatcher.InvalidInput"),
        (at_the_limit(IOT_PAYLOAD_BYTES - overhead + 1), "Dispatcher.PayloadTooLarge"),
        (at_the_limit(150_000), "Dispatcher.PayloadTooLarge"),
    ] {
        let error = dispatch_json(&iot, &fixed, &event).await.unwrap_err();
        assert_eq!(error.name(), name, "{error}");
    }
    assert!(iot.published.borrow().is_empty());
    dispatch_json(&iot, &fixed, &at_the_limit(IOT_PAYLOAD_BYTES - overhead)).await.unwrap();
}

#[tokio::test]
async fn a_failed_publish_is_a_failed_invocation() {
    for (refuse, name) in [
        ((|| Error::Throttled(String::new())) as fn() -> Error, "Dispatcher.Throttled"),
        (|| Error::PublishRefused(String::new()), "Dispatcher.PublishRefused"),
        (|| Error::PublishFailed(String::new()), "Dispatcher.PublishFailed"),
    ] {
        let iot = Broker { refuse: Some(refuse), ..Broker::default() };
        let event = json!({"Input": 1, "TaskToken": "abc"});
        assert_eq!(dispatch_json(&iot, &config(&[]), &event).await.unwrap_err().name(), name);
    }
}

/// A job with context, dispatched with this table.
async fn dispatch_with(iot: &Broker, jobs: &MemoryJobs, token: &str) -> Result<Dispatched, Error> {
    let event = json!({"Input": 1, "TaskToken": token, "Execution": "arn:e", "State": "Run", "Attempt": 1,
        "Job": {"Tenant": "plant-7", "Kind": "sql", "Name": "nightly", "TimeoutSeconds": 90,
            "IdempotencyKey": "the-key"}});
    let event = RawValue::from_string(event.to_string()).unwrap();
    dispatch(iot, Some(jobs), None, &config(&[]), &event, Timestamp::UNIX_EPOCH, None).await
}

fn plant_7() -> Tenant {
    Tenant::parse("plant-7").unwrap()
}

#[tokio::test]
async fn a_job_is_in_the_table_before_it_is_published() {
    let (iot, jobs) = (Broker::default(), MemoryJobs::default());
    let job_id = dispatch_with(&iot, &jobs, "abc").await.unwrap().job_id;
    let job = jobs.get(&plant_7(), &job_id).await.unwrap().unwrap();

    assert_eq!((job.state, job.resumed), (State::Dispatched, false));
    assert_eq!(
        [&job.kind, &job.name, &job.execution, &job.state_name, &job.topic, &job.deadline]
            .map(Option::as_deref),
        [
            Some("sql"),
            Some("nightly"),
            Some("arn:e"),
            Some("Run"),
            Some("plant-7/to/worker"),
            Some("1970-01-01T00:01:30.000Z")
        ]
    );
    assert_eq!((job.attempt, job.idempotency_key.as_deref()), (Some(1), Some("the-key")));
    let payload: Value = serde_json::from_slice(&iot.published.borrow()[0].payload).unwrap();
    assert_eq!(payload.get("Resume"), None);
}

/// Dispatches a job, whose worker reports this progress, and then the next attempt. Returns its payload.
async fn resume_with(progress: &str) -> Value {
    let (iot, jobs) = (Broker::default(), MemoryJobs::default());
    let job_id = dispatch_with(&iot, &jobs, "abc").await.unwrap().job_id;
    let progress = Progress {
        job_id,
        percent: None,
        message: None,
        data: Some(progress.to_owned()),
        log: Vec::new(),
        at: Timestamp::UNIX_EPOCH,
    };
    jobs.progress(&plant_7(), None, &progress).await.unwrap().unwrap();

    let next = dispatch_with(&iot, &jobs, "def").await.unwrap().job_id;
    let payload: Value = serde_json::from_slice(&iot.published.borrow()[1].payload).unwrap();
    let job = jobs.get(&plant_7(), &next).await.unwrap().unwrap();
    assert_eq!(job.resumed, payload.get("Resume").is_some());
    assert_eq!(job.data, payload.get("Resume").map(Value::to_string));
    payload
}

#[tokio::test]
async fn the_next_attempt_gets_the_last_progress() {
    assert_eq!(resume_with(r#"{"row":700}"#).await["Resume"], json!({"row": 700}));
    let too_large = format!("{:?}", "x".repeat(IOT_PAYLOAD_BYTES));
    assert_eq!(resume_with(&too_large).await.get("Resume"), None);
}

#[tokio::test]
async fn a_job_that_was_not_published_has_failed() {
    let iot = Broker { refuse: Some(|| Error::Throttled("busy".into())), ..Broker::default() };
    let jobs = MemoryJobs::default();
    dispatch_with(&iot, &jobs, "abc").await.unwrap_err();

    let job_id = JobId::parse("ba7816bf8f01cfea414140de5dae2223").unwrap();
    let job = jobs.get(&plant_7(), &job_id).await.unwrap().unwrap();
    assert_eq!((job.state, job.error.as_deref()), (State::Failed, Some("Dispatcher.Throttled")));
}

#[tokio::test]
async fn a_table_that_fails_does_not_fail_the_job() {
    let (iot, jobs) = (Broker::default(), MemoryJobs::unavailable());
    dispatch_with(&iot, &jobs, "abc").await.unwrap();
    assert_eq!(iot.published.borrow().len(), 1);
}

/// A name in a state machine that no function raises is an error that the machine seems to handle and does not.
#[test]
fn the_state_machines_match_the_errors_of_this_function_and_no_others() {
    let matched = |definition: &str| -> std::collections::BTreeSet<String> {
        let words = definition.split('"').filter(|word| word.starts_with("Dispatcher."));
        words.map(str::to_owned).collect()
    };
    let raised = [
        Error::InvalidInput(InvalidRequest::Shape(String::new())),
        Error::InvalidTopic(InvalidTopic::EmptyLevel),
        Error::PayloadTooLarge(0),
        Error::InputFrom(String::new()),
        Error::Throttled(String::new()),
        Error::PublishRefused(String::new()),
        Error::PublishFailed(String::new()),
    ];
    let raised = raised.iter().map(|error| error.name().to_owned()).collect();

    assert_eq!(matched(include_str!("../../../../statemachines/on-prem-job.asl.json")), raised);
    // The other machines need not match all of them.
    let machines = concat!(env!("CARGO_MANIFEST_DIR"), "/../../statemachines");
    let files = std::fs::read_dir(machines).unwrap().map(|entry| entry.unwrap().path());
    for path in files.filter(|path| path.is_file()) {
        let names = matched(&std::fs::read_to_string(&path).unwrap());
        assert!(names.is_subset(&raised), "{}: {names:?}", path.display());
    }
}

#[test]
fn an_error_of_the_configuration_names_its_variable() {
    for list in [[("WORKER_TOPIC", "a/+")], [("WORKER_TOPIC", "{who}/x")], [("DEFAULT_TENANT", "a/b")]] {
        let error = Config::from_env(&Environment::of(&list)).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(list[0].0), "{error}");
    }
}

#[test]
fn an_xray_header_becomes_a_trace_parent() {
    assert_eq!(
        trace_parent("Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1").unwrap(),
        "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01"
    );
    let not_sampled =
        trace_parent("Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=0");

    assert_eq!(not_sampled.unwrap(), "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-00");
    for bad in [
        // A wrong version, upper-case digits, a digit too many in the root and in the parent, no parent, and no numbers.
        "Root=2-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8",
        "Root=1-5759E988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8",
        "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995C3F42CD8AD8",
        "Root=1-5759e988-bd862e3fe1be46a9942727930;Parent=53995c3f42cd8ad8",
        "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad80",
        "",
        "Root=1-1-2",
        "Root=1-5759e988-bd862e3fe1be46a994272793",
        "Root=é-é;Parent=é",
    ] {
        assert_eq!(trace_parent(bad), None, "{bad}");
    }
}

/// Dispatches a job to an endpoint at which no AWS service answers. Returns the error's message.
async fn dispatch_to(endpoint: &str) -> String {
    let sdk = config_for(endpoint, "us-east-1", ("test", "test"));
    let event = RawValue::from_string(r#"{"Input":1,"TaskToken":"abc"}"#.to_owned()).unwrap();
    let iot = aws_sdk_iotdataplane::Client::new(&sdk);
    let error =
        dispatch(&iot, NO_TABLE, None, &config(&[]), &event, Timestamp::UNIX_EPOCH, None).await.unwrap_err();

    assert_eq!(error.name(), "Dispatcher.PublishFailed");
    error.to_string()
}

#[tokio::test]
async fn a_refused_connection_is_called_refused() {
    let port = postern_testing::free_port().unwrap();
    let message = dispatch_to(&format!("http://127.0.0.1:{port}")).await;
    assert!(message.contains("the connection failed: Connection refused"), "{message}");
}

#[tokio::test]
async fn a_failed_tls_handshake_names_its_reason() {
    let server = postern_testing::LoopbackServer::start(|_| http::Response::default());
    let message = dispatch_to(&server.url().replace("http://", "https://")).await;
    assert!(message.contains("the connection failed: received corrupt message"), "{message}");
}

#[tokio::test]
async fn an_unknown_host_names_the_look_up() {
    let message = dispatch_to("http://iot.invalid").await;
    assert!(message.contains("failed to lookup address"), "{message}");
}
