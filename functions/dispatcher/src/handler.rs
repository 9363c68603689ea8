//! Publishes a state machine's task as a job for a worker.

use aws_sdk_iotdataplane::primitives::Blob;
use aws_sdk_iotdataplane::types::PayloadFormatIndicator;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use postern_jobs::Jobs;
use postern_runtime::aws::{Failure, failure};
use postern_runtime::claim_check::ClaimCheck;
use postern_runtime::env::{Environment, InvalidVariable};
use postern_runtime::metrics;
use postern_types::{
    DispatchRequest, InvalidTopic, JobId, JobMessage, ObjectRef, Tenant, Topic, TopicTemplate,
};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::claim::{self, Owner};
use crate::error::Error;
use crate::record::Record;

/// The function's configuration.
pub(crate) struct Config {
    /// `WORKER_TOPIC`: the topic to which jobs are published. `{tenant}` stands for the job's tenant.
    worker_topic: TopicTemplate,
    /// `DEFAULT_TENANT`: the tenant of jobs that do not name one.
    default_tenant: Tenant,
}

impl Config {
    pub(crate) fn from_env(environment: &Environment<'_>) -> Result<Self, InvalidVariable> {
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

/// The function's answer, once the broker has the message.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Dispatched {
    /// The job's id.
    job_id: JobId,
    /// The topic to which the job was published.
    topic: Topic,
    /// The size of the message's payload, in bytes.
    bytes: usize,
}

/// An MQTT 5 message, published at QoS 1.
pub(crate) struct Message {
    topic: Topic,
    payload: Vec<u8>,
    /// The correlation data of the message.
    job_id: JobId,
    /// The message expiry, in seconds: the broker does not deliver a job whose attempt Step Functions has given up.
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
                (Failure::Denied | Failure::Refused, reason) => Error::PublishRefused(reason),
                (Failure::Unavailable, reason) => Error::PublishFailed(reason),
            })
    }
}

/// Publishes the job that `event` describes. An invalid event is an error before anything is published.
pub(crate) async fn dispatch(
    iot: &impl Publish,
    jobs: Option<&impl Jobs>,
    claims: Option<&ClaimCheck>,
    config: &Config,
    event: &RawValue,
    now: Timestamp,
    xray_trace_id: Option<&str>,
) -> Result<Dispatched, Error> {
    let mut request = DispatchRequest::parse(event)?;
    let job_id = request.token.job_id();
    let topic = config.topic(request.job.tenant.as_ref())?;
    let tenant = request.job.tenant.clone().unwrap_or_else(|| config.default_tenant.clone());
    let (name, expiry_seconds) = (request.job.name.clone(), request.job.expiry_seconds());

    let from = request.job.input_from.take();
    let mut message = request.into_message(now, xray_trace_id.and_then(trace_parent));
    let owner = Owner { tenant: &tenant, job_id: &job_id };
    let mut record = Record::new(jobs, &job_id, (&tenant, &topic), name.as_deref(), &message, now);
    message.resume = record.resume().await;

    let payload = payload(claims, owner, from.as_ref(), &mut message).await?;
    let bytes = payload.len();

    record.dispatched(message.resume.as_deref()).await;
    let publication = Message { topic: topic.clone(), payload, job_id: job_id.clone(), expiry_seconds };
    if let Err(error) = iot.publish(publication).await {
        record.not_published(&error).await;
        return Err(error);
    }

    metrics::count_for(tenant.as_str(), "JobsDispatched");
    tracing::info!(%job_id, %topic, bytes, name, execution = message.execution, "job dispatched");
    Ok(Dispatched { job_id, topic, bytes })
}

/// The message's payload. The progress of an earlier attempt is left out where it makes the message too large: a job that
/// starts from the beginning is better than a job that does not start.
async fn payload(
    claims: Option<&ClaimCheck>,
    owner: Owner<'_>,
    from: Option<&ObjectRef>,
    message: &mut JobMessage,
) -> Result<Vec<u8>, Error> {
    match claim::payload(claims, owner, from, message).await {
        Err(Error::PayloadTooLarge(bytes)) if message.resume.take().is_some() => {
            tracing::warn!(job_id = %owner.job_id, bytes, "the message is too large with the last progress; the job starts anew");
            claim::payload(claims, owner, from, message).await
        }
        done => done,
    }
}

/// Converts a trace header of X-Ray to a `traceparent` of W3C Trace Context. The X-Ray header looks like
/// `Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1`.
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
mod tests;
