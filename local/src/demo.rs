use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::time::Duration;

use postern_local::{
    Deployment, Emulator, EmulatorOptions, Error, Executions, Outputs, Process, Project, Steps, say,
};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::watch::watch;
use crate::{SAMPLE_INPUT, SAMPLE_OUTPUT};

/// The whole way, once: from nothing to an output, and back to nothing.
pub(crate) async fn demo() -> Result<bool, Error> {
    let project = Project::here()?;
    let folder = project.fresh_folder("demo")?;
    say("Postern: a Step Functions job runs in a private network and comes back\n");
    let mut running = Running::start(&project, &folder, EmulatorOptions::default()).await?;
    say(format_args!("\nexecution of {} with {SAMPLE_INPUT}", running.outputs.state_machine()));
    let log = running.worker_log.clone();
    let follow = Executions::new(&running.cloud.sdk_config().await);
    let finished = watch(&follow, running.outputs.state_machine(), SAMPLE_INPUT, Some(&log)).await?;
    let value = |json: &str| serde_json::from_str::<Value>(json).ok();
    let as_expected = finished.output.as_deref().and_then(value) == value(SAMPLE_OUTPUT);
    say("\nwhat ran where");
    for (what, place) in running.places() {
        say(format_args!("  {what:<18} {place}"));
    }
    running.worker.stop();
    drop(running);
    if as_expected {
        say(
            "\nOK: the job ran on the worker and its result is the execution's output. Everything is stopped.",
        );
        say("`make up` leaves it running to play with.");
    } else {
        let logs = folder.display();
        say(format_args!("\nFAILED: the output should be {SAMPLE_OUTPUT}\n  the logs are in {logs}"));
    }
    Ok(as_expected)
}

/// The local stack with one worker.
pub(crate) struct Running {
    // Fields end in this order: the worker says goodbye to a broker that is still there.
    pub(crate) worker: Process,
    pub(crate) cloud: Emulator,
    pub(crate) outputs: Outputs,
    pub(crate) worker_log: std::path::PathBuf,
    project: Project,
}

impl Running {
    /// Starts the emulator, deploys, enrols a worker and starts it, and says so.
    pub(crate) async fn start(
        project: &Project,
        folder: &Path,
        options: EmulatorOptions,
    ) -> Result<Self, Error> {
        let steps = Steps::new();
        steps.step("starting the emulator: ministack, with IAM and IoT policies enforced");
        let stays = options.stays;
        let cloud = Emulator::start(project, folder, options).await?;
        steps.step(format_args!(
            "it listens on {}; deploying template.yml as the stack postern",
            cloud.endpoint()
        ));
        let outputs = cloud.deploy(&Deployment::new("postern")).await?;
        steps.step(format_args!(
            "deployed; making a certificate for the worker {}",
            outputs.get("WorkerThingName")
        ));
        let files = cloud.enroll(&outputs, None).await?;
        steps.step("starting the worker, as in a private network: one outbound connection, no port");
        let worker_log = files.log();
        let mut worker = files.command(&project.program("postern-worker"), &[]);
        if stays {
            worker.process_group(0);
        }
        let worker = Process::start("the worker", &mut worker, &worker_log)?;
        let mut running = Self { worker, cloud, outputs, worker_log, project: project.clone() };
        let ready = "the worker to subscribe";
        let end = Instant::now() + TIMEOUT;
        while !running.worker.said().contains(r#""message":"subscribed""#) {
            if running.worker.ended().is_some() {
                return Err(running.worker.failure());
            }
            if Instant::now() > end {
                return Err(Error::TimedOut(TIMEOUT, ready.into()));
            }
            sleep(Duration::from_millis(20)).await;
        }
        steps.step("the worker is connected and waits for jobs");
        Ok(running)
    }

    /// What runs where, for the table.
    fn places(&self) -> [(&'static str, String); 6] {
        let emulator = format!("emulator, process {}", self.cloud.process().id());
        let function = |name: &str| {
            let binary = self.project.program(name);
            format!("emulator, running our own {}", binary.display())
        };
        [
            ("state machine", format!("Step Functions in the {emulator}")),
            ("dispatcher", format!("Lambda in the {}", function("dispatcher"))),
            (
                "message broker",
                format!("IoT Core in the emulator, MQTT 5 over mutual TLS at {}", self.cloud.broker()),
            ),
            ("add (the job)", format!("postern-worker, process {}", self.worker.id())),
            ("answer rule", format!("IoT Core in the {emulator}")),
            ("task-token-done", format!("Lambda in the {}", function("task-token-done"))),
        ]
    }
}

/// How long each step may take.
pub(crate) const TIMEOUT: Duration = Duration::from_mins(1);
