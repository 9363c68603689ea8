//! The local stack with one worker: what `make up` and `make demo` start.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use postern_pushpin::Pushpin;
use tokio::time::{Instant, sleep};

use crate::deployment::Deployment;
use crate::emulator::{Emulator, EmulatorOptions};
use crate::error::Error;
use crate::issuer::Issuer;
use crate::live::Live;
use crate::outputs::Outputs;
use crate::plant::Plant;
use crate::process::Process;
use crate::project::Project;
use crate::terminal::Steps;

/// How long the worker may take to subscribe.
const TIMEOUT: Duration = Duration::from_mins(1);

/// An emulator with the stack `postern`, and a worker that takes its jobs.
#[derive(Debug)]
pub struct LocalStack {
    // Fields are dropped in this order: the worker disconnects while its broker still runs.
    /// The worker.
    pub worker: Process,
    /// The emulator.
    pub emulator: Emulator,
    /// The issuer with which people sign in to the console.
    pub issuer: Issuer,
    /// The proxy that makes the console live, if the stack stays and Pushpin is installed.
    pub proxy: Option<Pushpin>,
    /// The outputs of the stack.
    pub outputs: Outputs,
    /// The log of the worker.
    pub worker_log: PathBuf,
}

impl LocalStack {
    /// Starts the emulator, deploys the stack, enrols a worker and starts it. Each step is printed.
    pub async fn start(project: &Project, folder: &Path, options: EmulatorOptions) -> Result<Self, Error> {
        Self::start_with(project, folder, options, Deployment::new("postern"), "postern-worker").await
    }

    /// [`LocalStack::start`] with a deployment that has edits, and with another program as the worker.
    pub async fn start_with(
        project: &Project,
        folder: &Path,
        options: EmulatorOptions,
        deployment: Deployment,
        worker: &str,
    ) -> Result<Self, Error> {
        let steps = Steps::new();
        let stays = options.stays;
        steps.step("starting the emulator: ministack, with IAM and IoT policies enforced");
        let emulator = Emulator::start(project, folder, options).await?;

        steps.step(format_args!(
            "the emulator listens on {}; deploying template.yml as the stack postern",
            emulator.endpoint()
        ));
        let issuer = Issuer::start(project, folder, None, stays).await?;
        let deployment =
            issuer.console(deployment.parameter("Approvals", "true").parameter("ClaimCheck", "true"));
        let (outputs, proxy) = deploy(&emulator, deployment, stays && Pushpin::is_installed()).await?;

        steps.step(format_args!(
            "deployed; making a certificate for the worker {}",
            outputs.get("WorkerThingName")
        ));
        let files = emulator.enroll(&outputs, None).await?;
        Plant::install(&files)?;

        steps.step("starting the worker, as in a private network: one outbound connection, no open port");
        let mut command = files.command(&project.program(worker), &[]);
        if stays {
            command.process_group(0);
        }
        let mut worker = Process::start("the worker", &mut command, &files.log())?;
        wait_until_subscribed(&mut worker).await?;

        steps.step("the worker is connected and waits for jobs");
        Ok(Self { worker, emulator, issuer, proxy, outputs, worker_log: files.log() })
    }
}

/// Deploys the stack, if it is `live` with a proxy for its console.
async fn deploy(
    emulator: &Emulator,
    deployment: Deployment,
    live: bool,
) -> Result<(Outputs, Option<Pushpin>), Error> {
    if !live {
        return Ok((emulator.deploy(&deployment).await?, None));
    }

    let (live, parameters) = Live::new(emulator).await?;
    let outputs = emulator.deploy(&parameters.of(deployment)).await?;
    let proxy = live.start(emulator, &outputs).await?;
    Ok((outputs, Some(proxy)))
}

async fn wait_until_subscribed(worker: &mut Process) -> Result<(), Error> {
    let end = Instant::now() + TIMEOUT;
    while !worker.logs().contains(r#""message":"subscribed""#) {
        if worker.ended().is_some() {
            return Err(worker.failure());
        }
        if Instant::now() > end {
            return Err(Error::TimedOut(TIMEOUT, "the worker to subscribe".into()));
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
