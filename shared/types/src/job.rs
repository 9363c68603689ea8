use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::fields::{self, InvalidField};
use crate::{InvalidTenant, InvalidToken, JobId, TaskToken, Tenant, present};

/// What the state machine hands to the dispatcher:
/// `{"Input": any, "TaskToken": string, "Job"?: {...}, "Execution"?: string}`. Other fields are let pass.
#[derive(Debug)]
pub struct DispatchRequest {
    /// The job's input, word for word. `null` is a value; a missing `Input` is an error.
    pub input: Box<RawValue>,
    /// The token that the worker's answer closes the task with.
    pub token: TaskToken,
    /// What the state machine says of the job.
    pub job: JobOptions,
    /// The execution's ARN, where the state machine passes it.
    pub execution: Option<String>,
}

/// `Job` of a [`DispatchRequest`]: every field is optional.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct JobOptions {
    /// Whose worker; else the dispatcher's default tenant.
    pub tenant: Option<Tenant>,
    /// Which of the worker's handlers; else the worker's default. 1 to 256 characters.
    pub kind: Option<String>,
    /// A name for people, shown in logs. 1 to 256 characters.
    pub name: Option<String>,
    /// How long the task waits for its result, in seconds: the state's own `TimeoutSeconds`.
    pub timeout_seconds: Option<u32>,
    /// How long the task waits for a sign of life, in seconds: the state's own `HeartbeatSeconds`.
    pub heartbeat_seconds: Option<u32>,
}

/// Why the dispatcher cannot take a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequest {
    /// Not `{...}`, or a field twice.
    #[error("the event must be an object {{\"Input\": ..., \"TaskToken\": ...}}: {0}")]
    Shape(String),
    /// One field is wrong.
    #[error(transparent)]
    Field(#[from] InvalidField),
    /// The token is.
    #[error(transparent)]
    Token(#[from] InvalidToken),
    /// The tenant is.
    #[error("Job.Tenant: {0}")]
    Tenant(#[from] InvalidTenant),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RequestFields {
    #[serde(default, deserialize_with = "present")]
    input: Option<Box<RawValue>>,
    task_token: Option<Box<RawValue>>,
    job: Option<Box<RawValue>>,
    execution: Option<Box<RawValue>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct JobFields {
    tenant: Option<Box<RawValue>>,
    kind: Option<Box<RawValue>>,
    name: Option<Box<RawValue>>,
    timeout_seconds: Option<Box<RawValue>>,
    heartbeat_seconds: Option<Box<RawValue>>,
}

impl DispatchRequest {
    /// Reads an event of the dispatcher.
    pub fn parse(event: &RawValue) -> Result<Self, InvalidRequest> {
        let fields: RequestFields = object(event)?;
        let token = fields::string("TaskToken", fields.task_token.as_deref())?
            .ok_or(InvalidField::Missing("TaskToken"))?;
        let job: JobFields = match fields::given(fields.job.as_deref()) {
            Some(job) if !job.get().starts_with('{') => {
                let found = fields::json_kind(job);
                return Err(InvalidField::Type { field: "Job", found, want: "an object" }.into());
            }
            Some(job) => object(job)?,
            None => JobFields::default(),
        };
        let tenant = fields::string("Job.Tenant", job.tenant.as_deref())?;
        Ok(Self {
            input: fields.input.ok_or(InvalidField::Missing("Input"))?,
            token: TaskToken::parse(token)?,
            job: JobOptions {
                tenant: tenant.as_deref().map(Tenant::parse).transpose()?,
                kind: fields::name("Job.Kind", job.kind.as_deref())?,
                name: fields::name("Job.Name", job.name.as_deref())?,
                timeout_seconds: fields::seconds("Job.TimeoutSeconds", job.timeout_seconds.as_deref())?,
                heartbeat_seconds: fields::seconds("Job.HeartbeatSeconds", job.heartbeat_seconds.as_deref())?,
            },
            execution: fields::string("Execution", fields.execution.as_deref())?,
        })
    }

    /// The message for the worker. `now` is when the task started to wait; `trace_parent` is W3C Trace Context.
    pub fn into_message(self, now: Timestamp, trace_parent: Option<String>) -> JobMessage {
        let timeout = self.job.timeout_seconds.map(|seconds| jiff::SignedDuration::from_secs(seconds.into()));
        JobMessage {
            input: self.input,
            job_id: Some(self.token.job_id()),
            task_token: self.token,
            execution: self.execution,
            kind: self.job.kind,
            deadline: timeout.map(|timeout| now.saturating_add(timeout).unwrap_or(Timestamp::MAX)),
            heartbeat_seconds: self.job.heartbeat_seconds,
            idempotency_key: None,
            state: None,
            attempt: None,
            trace_parent,
        }
    }
}

/// Reads `{...}`. Serde would take an array for a struct as well.
fn object<'a, T: Deserialize<'a>>(value: &'a RawValue) -> Result<T, InvalidRequest> {
    if !value.get().starts_with('{') {
        return Err(InvalidRequest::Shape(format!("it is {}", fields::json_kind(value))));
    }
    serde_json::from_str(value.get()).map_err(|error| InvalidRequest::Shape(error.to_string()))
}

/// What the dispatcher publishes to `{tenant}/to/worker`. `Input` and `TaskToken` are all that the AWS
/// sample's messages hold; the rest is left out where it is not known.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct JobMessage {
    /// The job's input, word for word.
    pub input: Box<RawValue>,
    /// What the answer must carry.
    pub task_token: TaskToken,
    /// Present when the other side is Postern, which understands `ACCEPTED` and `HEARTBEAT`; the sample's
    /// functions would take either for a result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_id: Option<JobId>,
    /// The execution's ARN: cancellation goes by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution: Option<String>,
    /// Which handler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// When the task stops waiting. RFC 3339, UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// Longest silence that the task bears, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeat_seconds: Option<u32>,
    /// The same for all attempts of one entry of a state, and different for everything else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// The name of the state that waits for the job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// The number of retries before this attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// W3C Trace Context `traceparent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_parent: Option<String>,
}

/// A message on a worker's topic that is no job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct InvalidJob {
    /// The task to fail, where the message names one.
    pub token: Option<TaskToken>,
    /// What is wrong, without the message's content.
    pub reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MessageFields {
    #[serde(default, deserialize_with = "present")]
    input: Option<Box<RawValue>>,
    task_token: Option<Box<RawValue>>,
    job_id: Option<Box<RawValue>>,
    execution: Option<Box<RawValue>>,
    kind: Option<Box<RawValue>>,
    deadline: Option<Box<RawValue>>,
    heartbeat_seconds: Option<Box<RawValue>>,
    idempotency_key: Option<Box<RawValue>>,
    state: Option<Box<RawValue>>,
    attempt: Option<Box<RawValue>>,
    trace_parent: Option<Box<RawValue>>,
}

impl JobMessage {
    /// Reads a payload of `{tenant}/to/worker`, ours or the AWS sample's.
    pub fn parse(payload: &[u8]) -> Result<Self, InvalidJob> {
        let no_task = |reason: String| InvalidJob { token: None, reason };
        let value: &RawValue = serde_json::from_slice(payload)
            .map_err(|error| no_task(format!("the message is not JSON: {error}")))?;
        let fields: MessageFields = object(value).map_err(|error| no_task(error.to_string()))?;
        let token = fields::string("TaskToken", fields.task_token.as_deref())
            .map_err(|error| no_task(error.to_string()))?
            .ok_or_else(|| no_task(InvalidField::Missing("TaskToken").to_string()))?;
        let token = TaskToken::parse(token).map_err(|error| no_task(error.to_string()))?;
        Self::read(fields, token.clone())
            .map_err(|error| InvalidJob { token: Some(token), reason: error.to_string() })
    }

    fn read(fields: MessageFields, token: TaskToken) -> Result<Self, InvalidField> {
        let deadline = fields::string("Deadline", fields.deadline.as_deref())?
            .map(|date| date.parse().map_err(|_| InvalidField::Date { field: "Deadline" }));
        Ok(Self {
            input: fields.input.ok_or(InvalidField::Missing("Input"))?,
            job_id: fields.job_id.map(|_| token.job_id()),
            task_token: token,
            execution: fields::string("Execution", fields.execution.as_deref())?,
            kind: fields::name("Kind", fields.kind.as_deref())?,
            deadline: deadline.transpose()?,
            heartbeat_seconds: fields::seconds("HeartbeatSeconds", fields.heartbeat_seconds.as_deref())?,
            idempotency_key: fields::name("IdempotencyKey", fields.idempotency_key.as_deref())?,
            state: fields::string("State", fields.state.as_deref())?,
            // For information only: a value that is not a count does not fail the job.
            attempt: fields::given(fields.attempt.as_deref())
                .and_then(|attempt| serde_json::from_str(attempt.get()).ok()),
            trace_parent: fields::string("TraceParent", fields.trace_parent.as_deref())?,
        })
    }

    /// The job's public name, whoever sent it.
    pub fn id(&self) -> JobId {
        self.task_token.job_id()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    fn request(json: &str) -> Result<DispatchRequest, InvalidRequest> {
        DispatchRequest::parse(&raw(json))
    }

    #[test]
    fn the_samples_request_becomes_the_samples_message_and_more() {
        let request = request(r#"{"Input":{"a":15,"b":42},"TaskToken":"abc"}"#).unwrap();
        assert_eq!(request.job, JobOptions::default());
        let message = request.into_message(Timestamp::UNIX_EPOCH, None);
        assert_eq!(
            serde_json::to_string(&message).unwrap(),
            r#"{"Input":{"a":15,"b":42},"TaskToken":"abc","JobId":"ba7816bf8f01cfea414140de5dae2223"}"#
        );
    }

    #[test]
    fn every_option_reaches_the_worker() {
        let request = request(
            r#"{"Input":null,"TaskToken":"abc","Execution":"arn:e","State":"S","Attempt":1,"Job":{
                "Tenant":"plant-7","Kind":"add","Name":"n","TimeoutSeconds":90,"HeartbeatSeconds":30}}"#,
        )
        .unwrap();
        assert_eq!(request.job.tenant.as_ref().unwrap().as_str(), "plant-7");
        let message = request.into_message(Timestamp::UNIX_EPOCH, Some("00-1-2-01".into()));
        let wire = serde_json::to_vec(&message).unwrap();
        let back = JobMessage::parse(&wire).unwrap();
        assert_eq!(back.input.get(), "null");
        assert_eq!(back.kind.as_deref(), Some("add"));
        assert_eq!(back.execution.as_deref(), Some("arn:e"));
        assert_eq!(back.deadline.unwrap().to_string(), "1970-01-01T00:01:30Z");
        assert_eq!(back.heartbeat_seconds, Some(30));
        assert_eq!(back.trace_parent.as_deref(), Some("00-1-2-01"));
        assert_eq!(back.job_id, Some(back.id()));
        assert_eq!(serde_json::to_vec(&back).unwrap(), wire);
    }

    #[test]
    fn an_error_names_the_field_and_what_is_wrong() {
        for (event, words) in [
            ("[1]", "it is an array"),
            ("7", "it is a number"),
            (r#"{"Input":1,"Input":2,"TaskToken":"t"}"#, "duplicate field"),
            (r#"{"TaskToken":"t"}"#, "Input is missing"),
            (r#"{"Input":1}"#, "TaskToken is missing"),
            (r#"{"Input":1,"TaskToken":null}"#, "TaskToken is missing"),
            (r#"{"Input":1,"TaskToken":7}"#, "TaskToken is a number; it must be a string"),
            (r#"{"Input":1,"TaskToken":""}"#, "the task token is empty"),
            (r#"{"Input":1,"TaskToken":"t","Job":[]}"#, "Job is an array; it must be an object"),
            (
                r#"{"Input":1,"TaskToken":"t","Job":{"Tenant":"a/b"}}"#,
                "Job.Tenant: the tenant has the character '/'",
            ),
            (r#"{"Input":1,"TaskToken":"t","Job":{"Kind":""}}"#, "Job.Kind has 0 characters"),
            (r#"{"Input":1,"TaskToken":"t","Job":{"TimeoutSeconds":0}}"#, "Job.TimeoutSeconds must be"),
            (r#"{"Input":1,"TaskToken":"t","Job":{"HeartbeatSeconds":1.5}}"#, "Job.HeartbeatSeconds must be"),
            (
                r#"{"Input":1,"TaskToken":"t","Job":{"HeartbeatSeconds":100000000}}"#,
                "Job.HeartbeatSeconds must be",
            ),
        ] {
            let error = request(event).unwrap_err().to_string();
            assert!(error.contains(words), "{event}: {error}");
        }
    }

    #[test]
    fn a_bad_job_message_keeps_its_token_where_it_has_one() {
        for payload in ["", "not json", "[]", "{}", r#"{"TaskToken":null}"#, r#"{"TaskToken":""}"#] {
            assert_eq!(JobMessage::parse(payload.as_bytes()).unwrap_err().token, None, "{payload}");
        }
        for (rest, words) in [
            (r#""Other":1"#, "Input is missing"),
            (r#""Input":1,"Deadline":"tomorrow""#, "RFC 3339"),
            (r#""Input":1,"HeartbeatSeconds":-1"#, "HeartbeatSeconds must be"),
            (r#""Input":1,"Kind":{}"#, "Kind is an object"),
        ] {
            let error = JobMessage::parse(format!(r#"{{"TaskToken":"abc",{rest}}}"#).as_bytes()).unwrap_err();
            assert_eq!(error.token.unwrap().expose(), "abc");
            assert!(error.reason.contains(words), "{rest}: {}", error.reason);
        }
    }

    proptest! {
        #[test]
        fn an_input_passes_through_to_the_letter(
            number in r"-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?",
            text in ".{0,40}",
        ) {
            let input = format!(r#"{{"z": {number}, "a" : {}}}"#, serde_json::to_string(&text).unwrap());
            let event = format!(r#"{{"Input":{input},"TaskToken":"t"}}"#);
            let message = request(&event).unwrap().into_message(Timestamp::UNIX_EPOCH, None);
            let back = JobMessage::parse(&serde_json::to_vec(&message).unwrap()).unwrap();
            prop_assert_eq!(back.input.get(), input);
        }

        #[test]
        fn no_bytes_make_the_job_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = JobMessage::parse(&bytes);
        }

        #[test]
        fn no_json_makes_the_parsers_panic(text in r#"[\[\]{}:,"a-zA-Z0-9. \\-]{0,80}"#) {
            if let Ok(value) = RawValue::from_string(text) {
                let _ = DispatchRequest::parse(&value);
                let _ = JobMessage::parse(value.get().as_bytes());
            }
        }
    }
}
