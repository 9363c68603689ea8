//! What every test on the emulated cloud stands on.

use std::path::PathBuf;
use std::time::Duration;

use aws_sdk_iotdataplane::primitives::Blob;
use aws_sdk_sfn::types::HistoryEventType;
use postern_local::{
    Deployment, Emulator, EmulatorOptions, Executions, Finished, Outputs, Process, Project, WorkerFiles,
};
use serde_json::Value;
use tokio::time::{Instant, sleep};

/// How long anything may take: far more than it does, so that no test depends on it.
pub(crate) const TIMEOUT: Duration = Duration::from_mins(1);

/// A cloud with one stack, and a worker's identity.
pub(crate) struct Stack {
    // The worker first: it says goodbye to a broker that is still there.
    workers: Vec<Process>,
    pub(crate) cloud: Emulator,
    pub(crate) outputs: Outputs,
    pub(crate) files: WorkerFiles,
    pub(crate) executions: Executions,
    pub(crate) project: Project,
    pub(crate) folder: PathBuf,
}

impl Stack {
    /// The stack as it is in `template.yml`, asynchronous retries without their minutes of waiting.
    pub(crate) async fn start(name: &str) -> Self {
        Self::with(name, Deployment::new("test")).await
    }

    /// A stack with changes.
    pub(crate) async fn with(name: &str, deployment: Deployment) -> Self {
        Self::in_environment(name, deployment, &[]).await
    }

    /// The stack as it is, without the waits between retries and in Wait states.
    pub(crate) async fn without_waits(name: &str, deployment: Deployment) -> Self {
        Self::in_environment(name, deployment, &[("SFN_WAIT_SCALE", "0")]).await
    }

    async fn in_environment(
        name: &str,
        deployment: Deployment,
        more: &[(&'static str, &'static str)],
    ) -> Self {
        let project = Project::here().unwrap();
        let folder = project.file(".postern/tests").join(name);
        let _ = std::fs::remove_dir_all(&folder);
        let mut environment = vec![("POSTERN_ASYNC_RETRY_SECONDS", "0.1,0.1")];
        environment.extend(more);
        let options = EmulatorOptions { environment, ..EmulatorOptions::default() };
        let cloud = Emulator::start(&project, &folder, options).await.unwrap();
        let outputs = cloud.deploy(&deployment).await.unwrap();
        let files = cloud.enroll(&outputs, None).await.unwrap();
        let executions = Executions::new(&cloud.sdk_config().await);
        Self { workers: Vec::new(), cloud, outputs, files, executions, project, folder }
    }

    /// Starts the worker of the README and waits until it takes jobs.
    pub(crate) async fn worker(&mut self) -> &mut Process {
        let program = self.project.program("postern-worker");
        self.worker_of(program, &[]).await
    }

    /// Starts the worker with the handlers that tests hold on to.
    pub(crate) async fn test_worker(&mut self) -> &mut Process {
        self.worker_of(env!("CARGO_BIN_EXE_test-worker").into(), &[]).await
    }

    /// Starts `program` as the worker.
    pub(crate) async fn worker_of(&mut self, program: PathBuf, arguments: &[&str]) -> &mut Process {
        let worker = self.files.start(&program, arguments).unwrap();
        said(&worker, r#""message":"subscribed""#).await;
        self.workers.push(worker);
        self.workers.last_mut().unwrap()
    }

    /// The workers that were started.
    pub(crate) fn workers_mut(&mut self) -> &mut [Process] {
        &mut self.workers
    }

    /// Starts an execution; its ARN.
    pub(crate) async fn execute(&self, input: &str) -> String {
        self.executions.start(self.outputs.state_machine(), input).await.unwrap()
    }

    /// Waits for an execution's end.
    pub(crate) async fn end(&self, execution: &str) -> Finished {
        self.executions.end(execution, TIMEOUT).await.unwrap()
    }

    /// The task tokens that an execution has sent out so far, waiting until there are `count`.
    pub(crate) async fn tokens(&self, execution: &str, count: usize) -> Vec<String> {
        let scheduled = HistoryEventType::TaskScheduled;
        let events = self.executions.happened(execution, &scheduled, count, TIMEOUT).await.unwrap();
        let parameters =
            events.iter().map(|event| event.task_scheduled_event_details().unwrap().parameters());
        parameters
            .map(|json| {
                serde_json::from_str::<Value>(json).unwrap()["Payload"]["TaskToken"].as_str().unwrap().into()
            })
            .collect()
    }

    /// Publishes to a worker's answer topic, as the cloud's own administrator.
    pub(crate) async fn publish(&self, payload: impl Into<Vec<u8>>) {
        let iot = aws_sdk_iotdataplane::Client::new(&self.cloud.sdk_config().await);
        let publish = iot.publish().topic("tenant1/to/lambda").qos(1).payload(Blob::new(payload.into()));
        publish.send().await.unwrap();
    }

    /// Waits for the next dead letter.
    pub(crate) async fn dead_letter(&self) -> Value {
        let sqs = aws_sdk_sqs::Client::new(&self.cloud.sdk_config().await);
        let end = Instant::now() + TIMEOUT;
        while Instant::now() < end {
            let queue = self.outputs.get("DeadLetterQueueUrl");
            let received = sqs.receive_message().queue_url(queue).wait_time_seconds(2).send().await.unwrap();
            if let Some(message) = received.messages.unwrap_or_default().pop() {
                sqs.delete_message()
                    .queue_url(queue)
                    .receipt_handle(message.receipt_handle.unwrap())
                    .send()
                    .await
                    .unwrap();
                return serde_json::from_str(&message.body.unwrap()).unwrap();
            }
        }
        panic!("no dead letter came");
    }

    /// How many dead letters wait.
    pub(crate) async fn dead_letters(&self) -> usize {
        let sqs = aws_sdk_sqs::Client::new(&self.cloud.sdk_config().await);
        let queue = self.outputs.get("DeadLetterQueueUrl");
        let received = sqs.receive_message().queue_url(queue).visibility_timeout(0).send().await.unwrap();
        received.messages.map_or(0, |messages| messages.len())
    }

    /// Waits until the functions' logs hold `text` at least `count` times.
    pub(crate) async fn logged(&self, text: &str, count: usize) -> String {
        let end = Instant::now() + TIMEOUT;
        loop {
            let logs = self.cloud.logs(&self.outputs).await.unwrap();
            if logs.matches(text).count() >= count {
                return logs;
            }
            assert!(Instant::now() < end, "{text:?} is not {count} times in:\n{logs}");
        }
    }
}

/// Waits until a program has said `text`.
pub(crate) async fn said(process: &Process, text: &str) {
    said_times(process, text, 1).await;
}

/// Waits until a program has said `text` so many times.
pub(crate) async fn said_times(process: &Process, text: &str, count: usize) {
    let end = Instant::now() + TIMEOUT;
    while process.logs().matches(text).count() < count {
        assert!(Instant::now() < end, "{text:?} is not {count} times in:\n{}", process.logs());
        sleep(Duration::from_millis(20)).await;
    }
}

/// The edit of the state machine that makes its heartbeat nine seconds (short enough to wait for, long enough
/// for a busy machine to keep) and its handler the one that a test holds.
pub(crate) fn held(deployment: Deployment) -> Deployment {
    deployment
        .edit(MACHINE, r#""Kind": "add""#, r#""Kind": "hold""#)
        .edit(MACHINE, "            \"HeartbeatSeconds\": 60", "            \"HeartbeatSeconds\": 9")
        .edit(MACHINE, "      \"HeartbeatSeconds\": 60,", "      \"HeartbeatSeconds\": 9,")
}

/// The state machine's file.
pub(crate) const MACHINE: &str = "statemachines/on-prem-job.asl.json";
