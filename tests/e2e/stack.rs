//! A stack in the emulator, with its workers: what the tests of this folder have in common.

use std::path::PathBuf;
use std::time::Duration;

use aws_sdk_iotdataplane::primitives::Blob;
use aws_sdk_sfn::types::HistoryEventType;
use postern_jobs::{DynamoJobs, JobItem, Jobs as _};
use postern_local::{
    Deployment, Emulator, EmulatorOptions, Executions, Finished, Outputs, Process, Project, WorkerFiles,
};
use postern_runtime::env::Environment;
use postern_types::{JobId, TaskToken, Tenant};
use serde_json::Value;
use tokio::time::{Instant, sleep};

/// The limit of every wait: far longer than any wait takes, so that no test depends on timing.
pub(crate) const TIMEOUT: Duration = Duration::from_mins(1);

/// An emulator with one stack, and the identity of a worker.
pub(crate) struct Stack {
    // Fields are dropped in this order. The workers come first, so that they disconnect while the broker still runs.
    workers: Vec<Process>,
    pub(crate) emulator: Emulator,
    pub(crate) outputs: Outputs,
    pub(crate) files: WorkerFiles,
    pub(crate) executions: Executions,
    pub(crate) project: Project,
    pub(crate) folder: PathBuf,
}

impl Stack {
    /// The stack of `template.yml`. Retries of asynchronous invocations wait tenths of a second instead of minutes.
    pub(crate) async fn start(name: &str) -> Self {
        Self::with(name, Deployment::new("test")).await
    }

    /// The stack of a deployment with parameters or edits.
    pub(crate) async fn with(name: &str, deployment: Deployment) -> Self {
        Self::in_environment(name, deployment, &[]).await
    }

    /// The stack of a deployment in which neither retries nor Wait states wait.
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
        let emulator = Emulator::start(&project, &folder, options).await.unwrap();
        let outputs = emulator.deploy(&deployment).await.unwrap();
        let files = emulator.enroll(&outputs, None).await.unwrap();
        let executions = Executions::new(&emulator.sdk_config());

        Self { workers: Vec::new(), emulator, outputs, files, executions, project, folder }
    }

    /// Starts `postern-worker` and waits until it has subscribed.
    pub(crate) async fn worker(&mut self) -> &mut Process {
        let program = self.project.program("postern-worker");
        self.worker_of(program, &[]).await
    }

    /// Starts the worker with the handlers that a test controls, and waits until it has subscribed.
    pub(crate) async fn test_worker(&mut self) -> &mut Process {
        self.worker_of(env!("CARGO_BIN_EXE_test-worker").into(), &[]).await
    }

    /// Starts `program` as the worker and waits until it has subscribed.
    pub(crate) async fn worker_of(&mut self, program: PathBuf, arguments: &[&str]) -> &mut Process {
        let worker = self.files.start(&program, arguments).unwrap();
        logged(&worker, r#""message":"subscribed""#).await;

        self.workers.push(worker);
        self.workers.last_mut().unwrap()
    }

    /// The workers that this stack has started.
    pub(crate) fn workers_mut(&mut self) -> &mut [Process] {
        &mut self.workers
    }

    /// Starts an execution and returns its ARN.
    pub(crate) async fn execute(&self, input: &str) -> String {
        self.executions.start(self.outputs.state_machine(), input).await.unwrap()
    }

    /// Waits for the end of an execution.
    pub(crate) async fn end(&self, execution: &str) -> Finished {
        self.executions.end(execution, TIMEOUT).await.unwrap()
    }

    /// Waits until an execution has scheduled `count` tasks, and returns their task tokens.
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

    /// Publishes to the answer topic of `tenant1` with the emulator's root credentials.
    pub(crate) async fn publish(&self, payload: impl Into<Vec<u8>>) {
        self.publish_to("tenant1/to/lambda", payload).await;
    }

    /// Publishes to a topic with the emulator's root credentials.
    pub(crate) async fn publish_to(&self, topic: &str, payload: impl Into<Vec<u8>>) {
        let iot = aws_sdk_iotdataplane::Client::new(&self.emulator.sdk_config());

        let publish = iot.publish().topic(topic).qos(1).payload(Blob::new(payload.into()));
        publish.send().await.unwrap();
    }

    /// A client of S3, with the emulator's root credentials.
    pub(crate) fn s3(&self) -> aws_sdk_s3::Client {
        let config = aws_sdk_s3::config::Builder::from(&self.emulator.sdk_config());
        aws_sdk_s3::Client::from_conf(config.force_path_style(true).build())
    }

    /// The table of jobs, with the emulator's root credentials.
    pub(crate) fn jobs(&self) -> DynamoJobs {
        let (endpoint, table) = (self.emulator.endpoint(), self.outputs.get("JobsTableName"));
        let variables = [
            ("AWS_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL", &*endpoint),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("JOBS_TABLE", table),
        ];
        DynamoJobs::from_env(&Environment::of(&variables)).unwrap().unwrap()
    }

    /// The id of the job of an execution's task: that of its attempt, counted from 1.
    pub(crate) async fn job_id(&self, execution: &str, attempt: usize) -> JobId {
        let token = self.tokens(execution, attempt).await.remove(attempt - 1);
        TaskToken::parse(token).unwrap().job_id()
    }

    /// Waits until a job of `tenant1` is as `test` wants it, and returns it.
    pub(crate) async fn job(&self, job_id: &JobId, what: &str, test: impl Fn(&JobItem) -> bool) -> JobItem {
        let (jobs, tenant) = (self.jobs(), Tenant::parse("tenant1").unwrap());
        let end = Instant::now() + TIMEOUT;
        loop {
            let job = jobs.get(&tenant, job_id).await.unwrap();
            if let Some(job) = job.as_ref().filter(|job| test(job)) {
                return job.clone();
            }
            assert!(Instant::now() < end, "{what}: {job:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Stops an execution.
    pub(crate) async fn stop(&self, execution: &str) {
        let sfn = aws_sdk_sfn::Client::new(&self.emulator.sdk_config());
        sfn.stop_execution().execution_arn(execution).cause("no longer needed").send().await.unwrap();
    }

    /// Waits for the next dead letter and takes it off the queue.
    pub(crate) async fn dead_letter(&self) -> Value {
        let sqs = aws_sdk_sqs::Client::new(&self.emulator.sdk_config());

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
        panic!("no dead letter within {TIMEOUT:?}");
    }

    /// The number of dead letters in the queue.
    pub(crate) async fn dead_letters(&self) -> usize {
        let sqs = aws_sdk_sqs::Client::new(&self.emulator.sdk_config());
        let queue = self.outputs.get("DeadLetterQueueUrl");

        let received = sqs.receive_message().queue_url(queue).visibility_timeout(0).send().await.unwrap();
        received.messages.map_or(0, |messages| messages.len())
    }

    /// Waits until the functions' logs contain `text` at least `count` times, and returns the logs.
    pub(crate) async fn logged(&self, text: &str, count: usize) -> String {
        let end = Instant::now() + TIMEOUT;
        loop {
            let logs = self.emulator.logs(&self.outputs).await.unwrap();
            if logs.matches(text).count() >= count {
                return logs;
            }
            assert!(Instant::now() < end, "{text:?} occurs fewer than {count} times in:\n{logs}");
        }
    }
}

/// Waits until the log of a program contains `text`.
pub(crate) async fn logged(process: &Process, text: &str) {
    logged_times(process, text, 1).await;
}

/// Waits until the log of a program contains `text` at least `count` times.
pub(crate) async fn logged_times(process: &Process, text: &str, count: usize) {
    let end = Instant::now() + TIMEOUT;
    while process.logs().matches(text).count() < count {
        assert!(Instant::now() < end, "{text:?} occurs fewer than {count} times in:\n{}", process.logs());
        sleep(Duration::from_millis(20)).await;
    }
}

/// Edits the state machine: its jobs run in the handler `hold`, which a test controls, and the heartbeat timeout is
/// nine seconds. That is short enough to wait for, and long enough for a busy machine.
pub(crate) fn held(deployment: Deployment) -> Deployment {
    deployment
        .edit(MACHINE, r#""Kind": "add""#, r#""Kind": "hold""#)
        .edit(MACHINE, "            \"HeartbeatSeconds\": 60", "            \"HeartbeatSeconds\": 9")
        .edit(MACHINE, "      \"HeartbeatSeconds\": 60,", "      \"HeartbeatSeconds\": 9,")
}

/// The definition of the state machine that most tests use.
pub(crate) const MACHINE: &str = "statemachines/on-prem-job.asl.json";
