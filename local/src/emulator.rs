use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_config::SdkConfig;
use serde::{Deserialize, Serialize};
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::project::output;
use crate::{Error, EventSourceMapping, Process, Project};

/// The emulated cloud, with IAM and IoT policies enforced.
#[derive(Debug)]
pub struct Emulator {
    project: Project,
    process: Process,
    folder: PathBuf,
    gateway: u16,
    mqtt: u16,
}

/// How the cloud is started.
#[derive(Debug, Clone, Default)]
pub struct EmulatorOptions {
    /// The port of all services but MQTT; a free one unless given.
    pub gateway_port: Option<u16>,
    /// The port of MQTT; a free one unless given.
    pub mqtt_port: Option<u16>,
    /// Whether it outlives the terminal it is started from.
    pub stays: bool,
    /// More for the emulator's environment (`local/emulator/README.md` lists what there is).
    pub environment: Vec<(&'static str, &'static str)>,
}

/// How long the emulator may take to be ready; a machine's first start reads a lot of Python.
const TIMEOUT: Duration = Duration::from_mins(1);

impl Emulator {
    /// Starts the emulator and waits until it is ready. Logs and files go into `folder`.
    pub async fn start(project: &Project, folder: &Path, options: EmulatorOptions) -> Result<Self, Error> {
        fs::create_dir_all(folder)?;
        let gateway = options.gateway_port.map_or_else(postern_testing::free_port, Ok)?;
        let mqtt = options.mqtt_port.map_or_else(postern_testing::free_port, Ok)?;
        let mut command = project.script("local/emulator/launch.py").into_std();
        command
            .env("AUTH", "true")
            .env("GATEWAY_PORT", gateway.to_string())
            .env("IOT_MTLS_PORT", mqtt.to_string())
            .envs(options.environment);
        if options.stays {
            command.process_group(0);
        }
        let process = Process::start("the emulator", &mut command, &folder.join("cloud.log"))?;
        let mut cloud = Self { project: project.clone(), process, folder: folder.into(), gateway, mqtt };
        let end = Instant::now() + TIMEOUT;
        while !cloud.get("/_ministack/ready").is_some_and(|body| body.contains(r#""iot_mtls": "listening""#))
        {
            if cloud.process.ended().is_some() {
                return Err(cloud.process.failure());
            }
            if Instant::now() > end {
                return Err(Error::TimedOut(TIMEOUT, "the emulator to be ready".into()));
            }
            sleep(Duration::from_millis(50)).await;
        }
        let authority = cloud.get("/_ministack/iot/ca.pem").ok_or_else(|| cloud.process.failure())?;
        fs::write(cloud.ca(), authority)?;
        Ok(cloud)
    }

    fn get(&self, path: &str) -> Option<String> {
        let answer = ureq::get(format!("{}{path}", self.endpoint())).call();
        answer.ok()?.body_mut().read_to_string().ok()
    }

    /// Where all services but MQTT are.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.gateway)
    }

    /// Where the MQTT broker is, as `HOST:PORT`.
    pub fn broker(&self) -> String {
        format!("localhost:{}", self.mqtt)
    }

    /// The CA of the broker's certificate.
    pub fn ca(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// The emulator itself.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Lets the emulator live on.
    pub fn leave(self) {
        self.process.leave();
    }

    /// What an AWS client needs to know of this cloud: the endpoint, and its root's credentials.
    pub fn environment(&self) -> [(&'static str, String); 4] {
        [
            ("AWS_ENDPOINT_URL", self.endpoint()),
            ("AWS_DEFAULT_REGION", REGION.into()),
            ("AWS_ACCESS_KEY_ID", "test".into()),
            ("AWS_SECRET_ACCESS_KEY", "test".into()),
        ]
    }

    /// The same for clients of this process.
    pub async fn sdk_config(&self) -> SdkConfig {
        sdk_config(&self.endpoint()).await
    }

    /// Runs one of the project's scripts against this cloud.
    fn script(&self, path: &str) -> Command {
        let mut command = self.project.script(path);
        command.env_remove("AWS_PROFILE").env_remove("AWS_SESSION_TOKEN").envs(self.environment());
        command
    }

    /// Puts `template.yml` into this cloud, as `sam build` and `sam deploy` would.
    pub async fn deploy(&self, deployment: &Deployment) -> Result<Outputs, Error> {
        let template = self.folder.join(&deployment.name).join("template.yml");
        let mut paths = vec!["template.yml".to_owned()];
        for machine in fs::read_dir(self.project.file("statemachines"))? {
            paths.push(format!("statemachines/{}", machine?.file_name().to_string_lossy()));
        }
        for path in paths {
            let copy = template.with_file_name(&path);
            fs::create_dir_all(copy.parent().unwrap_or(&self.folder))?;
            fs::write(copy, deployment.edited(&path, fs::read_to_string(self.project.file(&path))?)?)?;
        }
        let mut command = self.script("local/stack.py");
        command.args(["deploy", "--name", &deployment.name, "--template"]).arg(template);
        command.arg("--binaries").arg(self.project.binaries());
        for (name, value) in &deployment.parameters {
            command.arg("--parameter").arg(format!("{name}={value}"));
        }
        let outputs = output("the deployment", &mut command).await?;
        let values = serde_json::from_str(&outputs).map_err(|error| Error::Aws(error.to_string()))?;
        Ok(Outputs { stack: deployment.name.clone(), values })
    }

    /// Gives a worker its certificate, as a user would. `thing` and `tenant` for another than the stack's own.
    pub async fn enroll(&self, outputs: &Outputs, other: Option<(&str, &str)>) -> Result<WorkerFiles, Error> {
        let (thing, tenant) = other.unwrap_or((outputs.get("WorkerThingName"), outputs.get("Tenant")));
        let folder = self.folder.join(thing);
        let mut command = self.script("infra/enroll_worker.py");
        command.args(["--stack", &outputs.stack, "--endpoint", &self.broker(), "--folder"]).arg(&folder);
        command.arg("--ca").arg(self.ca());
        if other.is_some() {
            command.args(["--thing", thing, "--tenant", tenant]);
        }
        output("the worker's enrolment", &mut command).await?;
        Ok(WorkerFiles { folder })
    }

    /// Puts a text into a bucket.
    pub async fn put(&self, bucket: &str, key: &str, text: &str) -> Result<(), Error> {
        let file = self.folder.join("put");
        fs::write(&file, text)?;
        let mut command = self.script("local/stack.py");
        command.args(["put", "--bucket", bucket, "--key", key, "--file"]).arg(file);
        output("the upload", &mut command).await.map(|_| ())
    }

    /// What a function answers to the event in a file, or its error: JSON.
    pub async fn invoke(&self, function: &str, event: &Path) -> Result<String, Error> {
        let mut command = self.script("local/stack.py");
        command.args(["invoke", "--function", function, "--file"]).arg(event);
        output("the invocation", &mut command).await
    }

    /// What a function's event sources are told to do.
    pub async fn mappings(&self, function: &str) -> Result<Vec<EventSourceMapping>, Error> {
        let mut command = self.script("local/stack.py");
        let json = output("the event sources", command.args(["mappings", "--function", function])).await?;
        serde_json::from_str(&json).map_err(|error| Error::Aws(error.to_string()))
    }

    /// All that the stack's functions have logged.
    pub async fn logs(&self, outputs: &Outputs) -> Result<String, Error> {
        let mut command = self.script("local/stack.py");
        output("the functions' logs", command.args(["logs", "--name", &outputs.stack])).await
    }
}

/// For the region that the emulator is taken to be.
const REGION: &str = "us-east-1";

/// The configuration of AWS clients for an emulator at `endpoint`.
pub async fn sdk_config(endpoint: &str) -> SdkConfig {
    postern_testing::config_for(endpoint, REGION, ("test", "test")).await
}

/// A stack to be: `template.yml`, perhaps with changes.
#[derive(Debug, Clone)]
pub struct Deployment {
    name: String,
    parameters: Vec<(String, String)>,
    edits: Vec<(String, String, String)>,
}

impl Deployment {
    /// A stack of this name.
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), parameters: Vec::new(), edits: Vec::new() }
    }

    /// With this value for a template's parameter.
    #[must_use]
    pub fn parameter(mut self, name: &str, value: &str) -> Self {
        self.parameters.push((name.into(), value.into()));
        self
    }

    /// With `to` in the place of `from` in one of the stack's files; that it is there once is checked.
    #[must_use]
    pub fn edit(mut self, file: &str, from: &str, to: &str) -> Self {
        self.edits.push((file.into(), from.into(), to.into()));
        self
    }

    fn edited(&self, file: &str, mut text: String) -> Result<String, Error> {
        for (_, from, to) in self.edits.iter().filter(|(edited, _, _)| edited == file) {
            if text.matches(from).count() != 1 {
                let why = format!("{from:?} should be there once");
                return Err(Error::Program { what: file.into(), why, log: None });
            }
            text = text.replace(from, to);
        }
        Ok(text)
    }
}

/// The state machine that is meant when none is named.
pub const DEFAULT_MACHINE: &str = "on-prem-job";

/// A stack's outputs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outputs {
    stack: String,
    values: BTreeMap<String, String>,
}

impl Outputs {
    /// Those of a stack in AWS, with the shell's credentials and region.
    pub async fn of_stack(project: &Project, stack: &str) -> Result<Self, Error> {
        let mut command = project.script("local/stack.py");
        let json = output("the stack's outputs", command.args(["outputs", "--name", stack])).await?;
        let values = serde_json::from_str(&json).map_err(|error| Error::Aws(error.to_string()))?;
        Ok(Self { stack: stack.into(), values })
    }

    /// One of them; empty where the template has none of that name.
    pub fn get(&self, name: &str) -> &str {
        self.values.get(name).map_or("", String::as_str)
    }

    /// The state machine of `statemachines/NAME.asl.json`; empty where the template has none.
    pub fn machine(&self, name: &str) -> &str {
        if name == DEFAULT_MACHINE {
            return self.state_machine();
        }
        let words = name.split('-').map(|word| {
            let (first, rest) = word.split_at_checked(1).unwrap_or((word, ""));
            first.to_uppercase() + rest
        });
        self.get(&format!("{}StateMachineArn", words.collect::<String>()))
    }

    /// The state machine that runs a job on premises.
    pub fn state_machine(&self) -> &str {
        self.get("StateMachineArn")
    }
}

/// A worker's identity: what `enroll_worker.py` wrote.
#[derive(Debug, Clone)]
pub struct WorkerFiles {
    folder: PathBuf,
}

impl WorkerFiles {
    /// The configuration, for `--config`.
    pub fn config(&self) -> PathBuf {
        self.folder.join("worker.toml")
    }

    /// The certificate.
    pub fn cert(&self) -> PathBuf {
        self.folder.join("cert.pem")
    }

    /// Its key.
    pub fn key(&self) -> PathBuf {
        self.folder.join("key.pem")
    }

    /// Where a worker that is started with this identity logs.
    pub fn log(&self) -> PathBuf {
        self.folder.join("worker.log")
    }

    /// `program` with this identity.
    pub fn command(&self, program: &Path, arguments: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(program);
        command.arg("--config").arg(self.config()).args(arguments);
        command
    }

    /// Starts `program` with this identity.
    pub fn start(&self, program: &Path, arguments: &[&str]) -> Result<Process, Error> {
        Process::start("the worker", &mut self.command(program, arguments), &self.log())
    }
}
