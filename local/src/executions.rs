use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_sfn::Client;
use aws_sdk_sfn::types::{ExecutionStatus, HistoryEvent, HistoryEventType};
use tokio::time::{Instant, sleep};

use crate::Error;

/// Starts executions and sees how they end.
#[derive(Debug, Clone)]
pub struct Executions {
    client: Client,
}

/// How an execution ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// `SUCCEEDED`, `FAILED`, `TIMED_OUT` or `ABORTED`.
    pub status: String,
    /// Of one that succeeded.
    pub output: Option<String>,
    /// Of one that failed.
    pub error: Option<String>,
    /// Of one that failed.
    pub cause: Option<String>,
}

impl Executions {
    /// Executions in the cloud of `config`.
    pub fn new(config: &SdkConfig) -> Self {
        Self { client: Client::new(config) }
    }

    /// Starts an execution; its ARN.
    pub async fn start(&self, state_machine: &str, input: &str) -> Result<String, Error> {
        let started =
            self.client.start_execution().state_machine_arn(state_machine).input(input).send().await?;
        Ok(started.execution_arn)
    }

    /// Waits for the end of an execution.
    pub async fn end(&self, execution: &str, patience: Duration) -> Result<Finished, Error> {
        let last = Instant::now() + patience;
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
                return Err(Error::TimedOut(patience, "the execution to end".into()));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// What has happened in an execution so far.
    pub async fn history(&self, execution: &str) -> Result<Vec<HistoryEvent>, Error> {
        let mut pages =
            self.client.get_execution_history().execution_arn(execution).into_paginator().items().send();
        let mut events = Vec::new();
        while let Some(event) = pages.next().await {
            events.push(event?);
        }
        Ok(events)
    }

    /// Waits until something has happened `count` times in an execution; those events.
    pub async fn happened(
        &self,
        execution: &str,
        what: &HistoryEventType,
        count: usize,
        patience: Duration,
    ) -> Result<Vec<HistoryEvent>, Error> {
        let last = Instant::now() + patience;
        loop {
            let mut events = self.history(execution).await?;
            events.retain(|event| event.r#type() == what);
            if events.len() >= count {
                return Ok(events);
            }
            if Instant::now() > last {
                return Err(Error::TimedOut(patience, format!("{count} {}", what.as_str())));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}
