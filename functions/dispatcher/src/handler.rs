use aws_sdk_iotdataplane::primitives::Blob;
use aws_sdk_iotdataplane::types::PayloadFormatIndicator;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use postern_runtime::aws::{Failure, failure};
use postern_runtime::env::{Environment, InvalidVariable};
use postern_runtime::{NamedError, metrics};
use postern_types::limits::IOT_PAYLOAD_BYTES;
use postern_types::{DispatchRequest, InvalidRequest, InvalidTopic, JobId, Tenant, Topic, TopicTemplate};
use serde::Serialize;
use serde_json::value::RawValue;

/// The function's environment.
pub(crate) struct Config {
    /// `WORKER_TOPIC`: where jobs go, `{tenant}` standing for the job's tenant.
    worker_topic: TopicTemplate,
    /// `DEFAULT_TENANT`: whose the jobs are that name no tenant.
    default_tenant: Tenant,
}

impl Config {
    pub(crate) fn read(environment: &Environment<'_>) -> Result<Self, InvalidVariable> {
        Ok(Self {
            worker_topic: environment
                .parse("WORKER_TOPIC", "{tenant}/to/worker", |topic| TopicTemplate::parse(topic))?,
            default_tenant: environment.parse("DEFAULT_TENANT", "tenant1", Tenant::parse)?,
        })
    }

    fn topic(&self, tenant: Option<&Tenant>) -> Result<Topic, InvalidTopic> {
        match tenant {
            Some(tenant) => self.worker_topic.for_tenant(tenant),
            None => self.worker_topic.for_default(&self.default_tenant),
        }
    }
}

/// What the state machine gets back once the broker has the message.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Dispatched {
    /// The job's public name.
    job_id: JobId,
    /// Where it was published.
    topic: Topic,
    /// The payload's size.
    bytes: usize,
}

/// Everything that can go wrong; the names are what a state machine matches.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    InvalidInput(#[from] InvalidRequest),
    #[error("{0}")]
    InvalidTopic(#[from] InvalidTopic),
    #[error(
        "the message has {0} bytes and AWS IoT Core takes at most {IOT_PAYLOAD_BYTES}: \
         pass a reference, such as an S3 URL, in the place of a large input"
    )]
    PayloadTooLarge(usize),
    #[error("AWS IoT Core asks for fewer messages: {0}")]
    Throttled(String),
    #[error("AWS IoT Core did not take the message: {0}")]
    PublishFailed(String),
}

impl NamedError for Error {
    fn name(&self) -> &'static str {
        match self {
            Self::InvalidInput(_) | Self::InvalidTopic(_) => "Dispatcher.InvalidInput",
            Self::PayloadTooLarge(_) => "Dispatcher.PayloadTooLarge",
            Self::Throttled(_) => "Dispatcher.Throttled",
            Self::PublishFailed(_) => "Dispatcher.PublishFailed",
        }
    }
}

/// An MQTT 5 message at QoS 1.
pub(crate) struct Message {
    topic: Topic,
    payload: Vec<u8>,
    /// Correlation data: the job's id.
    job_id: JobId,
    /// Message expiry, in seconds: a job that nobody waits for any more is not delivered.
    expiry_seconds: Option<u32>,
}

/// What the handler needs of AWS IoT Core.
pub(crate) trait Publish {
    async fn publish(&self, message: Message) -> Result<(), Error>;
}

impl Publish for aws_sdk_iotdataplane::Client {
    async fn publish(&self, message: Message) -> Result<(), Error> {
        let bytes = message.payload.len();
        self.publish()
            .topic(message.topic.as_str())
            .qos(1)
            .payload(Blob::new(message.payload))
            .payload_format_indicator(PayloadFormatIndicator::Utf8Data)
            .content_type("application/json")
            .correlation_data(BASE64.encode(message.job_id.as_str()))
            .set_message_expiry(message.expiry_seconds.map(i64::from))
            .send()
            .await
            .map(|_| ())
            .map_err(|error| match failure(&error) {
                (Failure::Throttled, reason) => Error::Throttled(reason),
                (Failure::TooLarge, _) => Error::PayloadTooLarge(bytes),
                (_, reason) => Error::PublishFailed(reason),
            })
    }
}

/// Publishes the job that `event` describes. Whatever is wrong with it is found before anything is published.
pub(crate) async fn dispatch(
    iot: &impl Publish,
    config: &Config,
    event: &RawValue,
    now: Timestamp,
    xray_trace_id: Option<&str>,
) -> Result<Dispatched, Error> {
    let request = DispatchRequest::parse(event)?;
    let job_id = request.token.job_id();
    let topic = config.topic(request.job.tenant.as_ref())?;
    let (name, expiry_seconds) = (request.job.name.clone(), request.job.timeout_seconds);
    let message = request.into_message(now, xray_trace_id.and_then(trace_parent));
    let payload = serde_json::to_vec(&message).unwrap_or_default();
    let bytes = payload.len();
    if bytes > IOT_PAYLOAD_BYTES {
        return Err(Error::PayloadTooLarge(bytes));
    }
    iot.publish(Message { topic: topic.clone(), payload, job_id: job_id.clone(), expiry_seconds }).await?;
    metrics::count("JobsDispatched");
    tracing::info!(%job_id, %topic, bytes, name, execution = message.execution, "job dispatched");
    Ok(Dispatched { job_id, topic, bytes })
}

/// X-Ray's `Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1` as a W3C `traceparent`.
fn trace_parent(xray: &str) -> Option<String> {
    let field =
        |name: &str| xray.split(';').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='));
    let (version_and_time, random) = field("Root")?.rsplit_once('-')?;
    let trace = format!("{}{random}", version_and_time.strip_prefix("1-")?);
    let parent = field("Parent")?;
    let hex = |text: &str, digits: usize| {
        text.len() == digits
            && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let sampled = if field("Sampled") == Some("1") { "01" } else { "00" };
    (hex(&trace, 32) && hex(parent, 16)).then(|| format!("00-{trace}-{parent}-{sampled}"))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use postern_testing::{RecordedRequest, StubServer, config_for};
    use serde_json::{Value, json};

    use super::*;

    /// What comes of a job when the real client gets this from AWS IoT Core, and what it asked for.
    async fn when_told(status: u16, code: &'static str) -> (Option<&'static str>, Vec<RecordedRequest>) {
        let stub = StubServer::answering(status, code);
        let sdk = config_for(&stub.url(), "us-east-1", ("test", "test")).await;
        let event = json!({"Input": 1, "TaskToken": "abc", "Job": {"TimeoutSeconds": 90}});
        let event = RawValue::from_string(event.to_string()).unwrap();
        let iot = aws_sdk_iotdataplane::Client::new(&sdk);
        let done = dispatch(&iot, &config(&[]), &event, Timestamp::UNIX_EPOCH, None).await;
        let requests = stub.requests();
        (done.err().map(|error| error.name()), requests)
    }

    #[tokio::test]
    async fn a_message_has_the_properties_of_the_contract() {
        let (error, requests) = when_told(200, "").await;
        assert_eq!((error, requests.len()), (None, 1));
        let RecordedRequest { head, body } = &requests[0];
        for part in [
            "post /topics/tenant1%2fto%2fworker?",
            "qos=1",
            "contenttype=application%2fjson",
            "messageexpiry=90",
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
    async fn every_answer_of_iot_core_has_its_name() {
        for (status, code, name, attempts) in [
            (429, "ThrottlingException", "Dispatcher.Throttled", 3),
            (503, "ServiceUnavailable", "Dispatcher.PublishFailed", 3),
            (500, "InternalFailureException", "Dispatcher.PublishFailed", 3),
            (401, "UnauthorizedException", "Dispatcher.PublishFailed", 1),
            (403, "ForbiddenException", "Dispatcher.PublishFailed", 1),
            (400, "InvalidRequestException", "Dispatcher.PublishFailed", 1),
            (413, "RequestEntityTooLargeException", "Dispatcher.PayloadTooLarge", 1),
        ] {
            let (error, requests) = when_told(status, code).await;
            assert_eq!((error, requests.len()), (Some(name), attempts), "{code}");
        }
    }

    /// Keeps what was published, or refuses it.
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
        Config::read(&Environment::of(list)).unwrap()
    }

    async fn dispatch_json(iot: &Broker, config: &Config, event: &Value) -> Result<Dispatched, Error> {
        let event = RawValue::from_string(event.to_string()).unwrap();
        dispatch(iot, config, &event, Timestamp::UNIX_EPOCH, None).await
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
        assert_eq!(published[0].expiry_seconds, Some(90));
        let payload: Value = serde_json::from_slice(&published[0].payload).unwrap();
        assert_eq!(payload["Deadline"], "1970-01-01T00:01:30Z");
        assert_eq!(payload["HeartbeatSeconds"], 30);
    }

    #[tokio::test]
    async fn nothing_wrong_is_published() {
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
            (|| Error::PublishFailed(String::new()), "Dispatcher.PublishFailed"),
        ] {
            let iot = Broker { refuse: Some(refuse), ..Broker::default() };
            let event = json!({"Input": 1, "TaskToken": "abc"});
            assert_eq!(dispatch_json(&iot, &config(&[]), &event).await.unwrap_err().name(), name);
        }
    }

    /// A name that a state machine's `Retry` or `Catch` waits for in vain is worse than none.
    #[test]
    fn the_state_machine_matches_these_errors_and_no_others() {
        let matched = |definition: &str| -> std::collections::BTreeSet<String> {
            let words = definition.split('"').filter(|word| word.starts_with("Dispatcher."));
            words.map(str::to_owned).collect()
        };
        let raised = [
            Error::InvalidInput(InvalidRequest::Shape(String::new())),
            Error::InvalidTopic(InvalidTopic::EmptyLevel),
            Error::PayloadTooLarge(0),
            Error::Throttled(String::new()),
            Error::PublishFailed(String::new()),
        ];
        let raised = raised.iter().map(|error| error.name().to_owned()).collect();
        assert_eq!(matched(include_str!("../../../statemachines/on-prem-job.asl.json")), raised);
        // The other machines need not match all of them.
        let machines = concat!(env!("CARGO_MANIFEST_DIR"), "/../../statemachines");
        for machine in std::fs::read_dir(machines).unwrap() {
            let path = machine.unwrap().path();
            let names = matched(&std::fs::read_to_string(&path).unwrap());
            assert!(names.is_subset(&raised), "{}: {names:?}", path.display());
        }
    }

    #[test]
    fn a_wrong_environment_is_named() {
        for list in [[("WORKER_TOPIC", "a/+")], [("WORKER_TOPIC", "{who}/x")], [("DEFAULT_TENANT", "a/b")]] {
            let error = Config::read(&Environment::of(&list)).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(list[0].0), "{error}");
        }
    }

    #[test]
    fn an_xray_header_becomes_a_trace_parent() {
        assert_eq!(
            trace_parent("Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1")
                .unwrap(),
            "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01"
        );
        for bad in ["", "Root=1-1-2", "Root=1-5759e988-bd862e3fe1be46a994272793", "Root=é-é;Parent=é"] {
            assert_eq!(trace_parent(bad), None, "{bad}");
        }
    }
}
