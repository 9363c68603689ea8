//! The traits of [`crate::services`] for the clients of the AWS SDK.

use aws_sdk_iotdataplane::primitives::Blob;
use aws_sdk_sfn::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sfn::types::HistoryEvent as SdkEvent;
use postern_runtime::aws::{failure, is_closed_task};
use postern_types::TaskToken;

use crate::problem::Problem;
use crate::services::{Broker, Decided, HistoryEvent, HistoryKind, Started, StepFunctions};

const STEP_FUNCTIONS: &str = "Step Functions";
const IOT: &str = "AWS IoT Core";

/// The most events of a page of a history. An event has at most 256 KB of data, so that a page fits into the function's
/// memory.
const HISTORY_PAGE: i32 = 200;

impl StepFunctions for aws_sdk_sfn::Client {
    async fn start(&self, machine: &str, name: &str, input: &str) -> Result<Started, Problem> {
        let start = self.start_execution().state_machine_arn(machine).name(name).input(input);
        match start.send().await {
            Ok(_) => Ok(Started::Running),
            Err(error) if error.code() == Some("ExecutionAlreadyExists") => Ok(Started::Exists),
            Err(error) => Err(Problem::of_call(STEP_FUNCTIONS, failure(&error))),
        }
    }

    async fn input_of(&self, execution: &str) -> Result<Option<String>, Problem> {
        match self.describe_execution().execution_arn(execution).send().await {
            Ok(execution) => Ok(execution.input),
            Err(error) if error.code() == Some("ExecutionDoesNotExist") => Ok(None),
            Err(error) => Err(Problem::of_call(STEP_FUNCTIONS, failure(&error))),
        }
    }

    async fn stop(&self, execution: &str, reason: &str) -> Result<(), Problem> {
        let stop = self.stop_execution().execution_arn(execution).error("Job.Stopped").cause(reason);
        match stop.send().await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some("ExecutionDoesNotExist") => Ok(()),
            Err(error) => Err(Problem::of_call(STEP_FUNCTIONS, failure(&error))),
        }
    }

    async fn history(
        &self,
        execution: &str,
        page: Option<String>,
    ) -> Result<Option<(Vec<HistoryEvent>, Option<String>)>, Problem> {
        let history = self.get_execution_history().execution_arn(execution).max_results(HISTORY_PAGE);
        match history.set_next_token(page).send().await {
            Ok(history) => Ok(Some((history.events.into_iter().map(event).collect(), history.next_token))),
            Err(error) if error.code() == Some("ExecutionDoesNotExist") => Ok(None),
            Err(error) => Err(Problem::of_call(STEP_FUNCTIONS, failure(&error))),
        }
    }

    async fn succeed(&self, token: &TaskToken, output: &str) -> Result<Decided, Problem> {
        decided(self.send_task_success().task_token(token.expose()).output(output).send().await)
    }

    async fn fail(&self, token: &TaskToken, error: &str, cause: &str) -> Result<Decided, Problem> {
        decided(self.send_task_failure().task_token(token.expose()).error(error).cause(cause).send().await)
    }
}

fn decided<T, E: ProvideErrorMetadata>(answer: Result<T, SdkError<E>>) -> Result<Decided, Problem> {
    match answer {
        Ok(_) => Ok(Decided::Taken),
        Err(error) if is_closed_task(error.code()) => Ok(Decided::Closed),
        Err(error) => Err(Problem::of_call(STEP_FUNCTIONS, failure(&error))),
    }
}

fn event(event: SdkEvent) -> HistoryEvent {
    let kind = if let Some(scheduled) = event.task_scheduled_event_details {
        HistoryKind::Scheduled(scheduled.parameters)
    } else if let Some(succeeded) = event.task_succeeded_event_details {
        HistoryKind::Succeeded(succeeded.output.unwrap_or_default())
    } else if event.task_failed_event_details.is_some() || event.task_timed_out_event_details.is_some() {
        HistoryKind::Failed
    } else {
        HistoryKind::Other
    };
    HistoryEvent { id: event.id, previous: event.previous_event_id, kind }
}

impl Broker for aws_sdk_iotdataplane::Client {
    async fn publish(&self, topic: &str, payload: &str, expiry_seconds: i64) -> Result<(), Problem> {
        let message = self.publish().topic(topic).qos(1).payload(Blob::new(payload));
        let message = message.content_type("application/json").message_expiry(expiry_seconds);
        message.send().await.map(drop).map_err(|error| Problem::of_call(IOT, failure(&error)))
    }

    async fn retained_topics(&self, page: Option<String>) -> Result<(Vec<String>, Option<String>), Problem> {
        let list = self.list_retained_messages().max_results(200).set_next_token(page).send().await;
        let list = list.map_err(|error| Problem::of_call(IOT, failure(&error)))?;
        let topics = list.retained_topics.unwrap_or_default().into_iter().filter_map(|one| one.topic);
        // The token of the last page is empty.
        Ok((topics.collect(), list.next_token.filter(|token| !token.is_empty())))
    }

    async fn retained(&self, topic: &str) -> Result<Option<Vec<u8>>, Problem> {
        match self.get_retained_message().topic(topic).send().await {
            Ok(message) => Ok(message.payload.map(Blob::into_inner)),
            Err(error) if error.code() == Some("ResourceNotFoundException") => Ok(None),
            Err(error) => Err(Problem::of_call(IOT, failure(&error))),
        }
    }
}
