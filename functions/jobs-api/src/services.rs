//! What the handler needs of Step Functions and AWS IoT Core, as narrow traits. The table's trait is [`postern_jobs::Jobs`].

use postern_types::TaskToken;

use crate::problem::Problem;

/// The start of an execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Started {
    /// The execution runs. It may have been started before with the same name and input.
    Running,
    /// An execution of this name was started before, with another input, or has ended.
    Exists,
}

/// An event of an execution's history, as far as a job's input and result are in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HistoryEvent {
    pub(crate) id: i64,
    pub(crate) previous: i64,
    pub(crate) kind: HistoryKind,
}

/// What an event of a history says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HistoryKind {
    /// A task was scheduled with these parameters.
    Scheduled(String),
    /// A task succeeded with this output.
    Succeeded(String),
    /// A task failed or timed out.
    Failed,
    /// Anything else.
    Other,
}

/// The answer of Step Functions to a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decided {
    /// Step Functions accepted the decision.
    Taken,
    /// The task was answered before, timed out, or never existed.
    Closed,
}

/// The calls of Step Functions.
pub(crate) trait StepFunctions {
    async fn start(&self, machine: &str, name: &str, input: &str) -> Result<Started, Problem>;

    /// The input of an execution, or `None` if there is no such execution.
    async fn input_of(&self, execution: &str) -> Result<Option<String>, Problem>;

    /// Stops an execution. An execution that has ended stays as it is.
    async fn stop(&self, execution: &str, reason: &str) -> Result<(), Problem>;

    /// A page of an execution's history, oldest first, and the token of the next page. `None` if the execution is gone.
    async fn history(
        &self,
        execution: &str,
        page: Option<String>,
    ) -> Result<Option<(Vec<HistoryEvent>, Option<String>)>, Problem>;

    async fn succeed(&self, token: &TaskToken, output: &str) -> Result<Decided, Problem>;

    async fn fail(&self, token: &TaskToken, error: &str, cause: &str) -> Result<Decided, Problem>;
}

/// The calls of AWS IoT Core.
pub(crate) trait Broker {
    /// Publishes at QoS 1. The message expires after `expiry_seconds`.
    async fn publish(&self, topic: &str, payload: &str, expiry_seconds: i64) -> Result<(), Problem>;

    /// A page of the topics that have a retained message, of all tenants, and the token of the next page.
    async fn retained_topics(&self, page: Option<String>) -> Result<(Vec<String>, Option<String>), Problem>;

    /// The retained message of a topic.
    async fn retained(&self, topic: &str) -> Result<Option<Vec<u8>>, Problem>;
}
