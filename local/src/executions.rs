//! Executions of state machines: started, awaited, and read event by event.

use std::time::Duration;

use aws_sdk_sfn::Client;
use aws_sdk_sfn::types::{ExecutionStatus, HistoryEvent, HistoryEventType};
use postern_runtime::aws::SdkConfig;
use tokio::time::{Instant, sleep};

use crate::error::Error;

/// Starts executions and waits for their events and their ends.
#[derive(Debug, Clone)]
pub struct Executions {
    client: Client,
    interval: Duration,
}

/// How an execution ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// `SUCCEEDED`, `FAILED`, `TIMED_OUT` or `ABORTED`.
    pub status: String,
    /// The output of an execution that succeeded.
    pub output: Option<String>,
    /// The error name of an execution that failed.
    pub error: Option<String>,
    /// The cause of an execution that failed.
    pub cause: Option<String>,
}

impl Executions {
    /// Executions in the AWS account or emulator of `config`.
    pub fn new(config: &SdkConfig) -> Self {
        Self { client: Client::new(config), interval: Duration::from_millis(50) }
    }

    /// Looks at an execution at this interval while waiting. The default suits an emulator; in an AWS account, the calls
    /// count against a quota that others share.
    #[must_use]
    pub fn every(self, interval: Duration) -> Self {
        Self { interval, ..self }
    }

    /// Starts an execution and returns its ARN.
    pub async fn start(&self, state_machine: &str, input: &str) -> Result<String, Error> {
        let started =
            self.client.start_execution().state_machine_arn(state_machine).input(input).send().await?;
        Ok(started.execution_arn)
    }

    /// Waits at most `timeout` for the end of an execution.
    pub async fn end(&self, execution: &str, timeout: Duration) -> Result<Finished, Error> {
        let last = Instant::now() + timeout;

        loop {
            let now = self.client.describe_execution().execution_arn(execution).send().await?;
            if now.status != ExecutionStatus::Running {
                return Ok(Finished {
                    status: now.status.as_str().into(),
                    output: now.output,
                    error: now.error,
                    cause: now.cause,
                });
            }
            if Instant::now() > last {
                return Err(Error::TimedOut(timeout, "the execution to end".into()));
            }
            sleep(self.interval).await;
        }
    }

    /// The history of an execution so far.
    pub async fn history(&self, execution: &str) -> Result<Vec<HistoryEvent>, Error> {
        let mut pages =
            self.client.get_execution_history().execution_arn(execution).into_paginator().items().send();

        let mut events = Vec::new();
        while let Some(event) = pages.next().await {
            events.push(event?);
        }

        Ok(events)
    }

    /// Waits at most `timeout` until an execution's history has `count` events of a type, and returns those events.
    pub async fn happened(
        &self,
        execution: &str,
        kind: &HistoryEventType,
        count: usize,
        timeout: Duration,
    ) -> Result<Vec<HistoryEvent>, Error> {
        let last = Instant::now() + timeout;

        loop {
            let mut events = self.history(execution).await?;
            events.retain(|event| event.r#type() == kind);
            if events.len() >= count {
                return Ok(events);
            }
            if Instant::now() > last {
                return Err(Error::TimedOut(timeout, format!("{count} events of type {}", kind.as_str())));
            }
            sleep(self.interval).await;
        }
    }
}
