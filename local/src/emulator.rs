//! The emulator's process and the calls that tests and demonstrations make to it. What is deployed is described in
//! `deployment`, and packaged in `package`.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Method;
use postern_runtime::aws::SdkConfig;
use serde::Deserialize;
use serde_json::json;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::api::{Api, Call, element, parse};
use crate::deployment::Deployment;
use crate::error::Error;
use crate::mapping::EventSourceMapping;
use crate::outputs::Outputs;
use crate::package::package;
use crate::process::Process;
use crate::project::{Project, output};
use crate::stacks;
use crate::worker_files::WorkerFiles;

/// The AWS emulator, with IAM and IoT policies enforced. It ends when this value is dropped.
#[derive(Debug)]
pub struct Emulator {
    project: Project,
    process: Process,
    folder: PathBuf,
    gateway: u16,
    mqtt: u16,
    api: Api,
}

/// How the emulator is started.
#[derive(Debug, Clone, Default)]
pub struct EmulatorOptions {
    /// The HTTP port of all services. `None` chooses a free port.
    pub gateway_port: Option<u16>,
    /// The MQTT port. `None` chooses a free port.
    pub mqtt_port: Option<u16>,
    /// Whether the emulator outlives the terminal that starts it.
    pub stays: bool,
    /// Additional environment variables; `local/emulator/README.md` lists them.
    pub environment: Vec<(&'static str, &'static str)>,
}

/// How long the emulator may take to be ready; the first start on a machine compiles much Python.
const TIMEOUT: Duration = Duration::from_mins(1);

/// The Region that the emulator pretends to be in.
const REGION: &str = "us-east-1";

impl Emulator {
    /// Starts the emulator and waits until it is ready. Logs and files go into `folder`.
    pub async fn start(project: &Project, folder: &Path, options: EmulatorOptions) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(Error::file(folder))?;
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
        let process = Process::start("the emulator", &mut command, &folder.join("emulator.log"))?;

        let api = Api::new(sdk_config(&format!("http://127.0.0.1:{gateway}")))?;
        let mut emulator =
            Self { project: project.clone(), process, folder: folder.into(), gateway, mqtt, api };
        emulator.wait_until_ready().await?;

        let authority = emulator.get("/_ministack/iot/ca.pem").ok_or_else(|| emulator.process.failure())?;
        fs::write(emulator.ca(), authority).map_err(Error::file(emulator.ca()))?;
        Ok(emulator)
    }

    /// Waits until HTTP and MQTT are served. If the emulator ends before that, fails at once with its last line.
    async fn wait_until_ready(&mut self) -> Result<(), Error> {
        let end = Instant::now() + TIMEOUT;
        loop {
            // Checked first: another program on the same port could answer in the emulator's place.
            if self.process.ended().is_some() {
                return Err(self.process.failure());
            }
            let ready = self.get("/_ministack/ready");
            if ready.is_some_and(|body| body.contains(r#""iot_mtls": "listening""#)) {
                return Ok(());
            }
            if Instant::now() > end {
                let log = self.process.log().display().to_string();
                let what = format!(
                    "the emulator to listen on the ports {} (HTTP) and {} (MQTT); its log is {log}",
                    self.gateway, self.mqtt
                );
                return Err(Error::TimedOut(TIMEOUT, what));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    fn get(&self, path: &str) -> Option<String> {
        let response = ureq::get(format!("{}{path}", self.endpoint())).call();
        response.ok()?.body_mut().read_to_string().ok()
    }

    /// The URL of all services but MQTT.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.gateway)
    }

    /// The address of the MQTT broker, as `HOST:PORT`.
    pub fn broker(&self) -> String {
        format!("localhost:{}", self.mqtt)
    }

    /// The CA certificate of the MQTT broker.
    pub fn ca(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// The emulator's process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Leaves the emulator running when its owner ends.
    pub fn leave(self) {
        self.process.leave();
    }

    /// The environment variables that direct an AWS client to this emulator, with the credentials of its root user.
    pub fn environment(&self) -> [(&'static str, String); 4] {
        environment(&self.endpoint())
    }

    /// The configuration of AWS clients for this emulator.
    pub fn sdk_config(&self) -> SdkConfig {
        sdk_config(&self.endpoint())
    }

    /// Deploys `template.yml`, as `sam build` and `sam deploy` do in AWS.
    pub async fn deploy(&self, deployment: &Deployment) -> Result<Outputs, Error> {
        let read = |path: &str| {
            let file = self.project.file(path);
            deployment.edited(path, fs::read_to_string(&file).map_err(Error::file(file))?)
        };
        let template = package(&self.api, &read("template.yml")?, read, self.project.binaries()).await?;
        stacks::apply(&self.api, &deployment.name, &template, &deployment.parameters).await
    }

    /// Gives a worker its certificate with the script that users run. `other` names the thing and the
    /// tenant if they are not the stack's own.
    pub async fn enroll(&self, outputs: &Outputs, other: Option<(&str, &str)>) -> Result<WorkerFiles, Error> {
        let (thing, tenant) = other.unwrap_or((outputs.get("WorkerThingName"), outputs.get("Tenant")));
        let more = if other.is_some() { vec!["--thing", thing, "--tenant", tenant] } else { Vec::new() };
        self.run_enrolment(outputs, thing, &more).await
    }

    /// Creates a thing in a group of workers of the stack's own tenant, and its certificate.
    pub async fn enroll_in_group(
        &self,
        outputs: &Outputs,
        thing: &str,
        group: &str,
    ) -> Result<WorkerFiles, Error> {
        self.run_enrolment(outputs, thing, &["--thing", thing, "--group", group]).await
    }

    async fn run_enrolment(
        &self,
        outputs: &Outputs,
        thing: &str,
        more: &[&str],
    ) -> Result<WorkerFiles, Error> {
        let folder = self.folder.join(thing);
        let mut command: Command = self.project.script("infra/enroll_worker.py");
        command.env_remove("AWS_PROFILE").env_remove("AWS_SESSION_TOKEN").envs(self.environment());
        command.args(["--stack", &outputs.stack, "--endpoint", &self.broker(), "--folder"]).arg(&folder);
        command.arg("--ca").arg(self.ca()).args(more);
        output("the worker's enrolment", &mut command).await?;
        Ok(WorkerFiles { folder })
    }

    /// Creates a secret with this text, and returns its ARN.
    pub async fn create_secret(&self, name: &str, text: &str) -> Result<String, Error> {
        let input = json!({"Name": name, "SecretString": text});
        let created = self.api.json("secretsmanager", "secretsmanager.CreateSecret", &input).await?;
        Ok(created["ARN"].as_str().unwrap_or_default().to_owned())
    }

    /// Gives a secret a new text. The text before becomes the previous version.
    pub async fn put_secret(&self, id: &str, text: &str) -> Result<(), Error> {
        let input = json!({"SecretId": id, "SecretString": text});
        self.api.json("secretsmanager", "secretsmanager.PutSecretValue", &input).await.map(drop)
    }

    /// Makes a user who may do only these actions on this resource. Returns the configuration of the user's clients.
    pub async fn user(&self, name: &str, actions: &[&str], resource: &str) -> Result<SdkConfig, Error> {
        let policy = json!({
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": actions, "Resource": resource}],
        });
        let policy = policy.to_string();
        let user = ("UserName", name);
        self.api.query("iam", "CreateUser", &[user]).await?;
        let grant = [user, ("PolicyName", "test"), ("PolicyDocument", &policy)];
        self.api.query("iam", "PutUserPolicy", &grant).await?;

        let created = self.api.query("iam", "CreateAccessKey", &[user]).await?;
        let part = |name: &str| element(&created, name).unwrap_or_default();
        let key = (part("AccessKeyId"), part("SecretAccessKey"));
        Ok(postern_testing::config_for(&self.endpoint(), REGION, (&key.0, &key.1)))
    }

    /// Puts a text into a bucket.
    pub async fn put(&self, bucket: &str, key: &str, text: &str) -> Result<(), Error> {
        self.api.put(bucket, key, text.to_owned().into()).await
    }

    /// Invokes a function with the event in a file. Returns the JSON of its answer or of its error.
    pub async fn invoke(&self, function: &str, event: &Path) -> Result<String, Error> {
        let body = fs::read(event).map_err(Error::file(event))?.into();
        let path = format!("/2015-03-31/functions/{function}/invocations");
        let call = Call { service: "lambda", method: Method::POST, path: &path, headers: &[], body };
        let answer = self.api.send("Lambda Invoke", call).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// The event source mappings of a function. No function of the template has more than one page of them.
    pub async fn mappings(&self, function: &str) -> Result<Vec<EventSourceMapping>, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Page {
            event_source_mappings: Vec<EventSourceMapping>,
        }

        let what = "Lambda ListEventSourceMappings";
        let path = format!("/2015-03-31/event-source-mappings/?FunctionName={function}");
        let body = bytes::Bytes::new();
        let call = Call { service: "lambda", method: Method::GET, path: &path, headers: &[], body };
        let page: Page = parse(what, &self.api.send(what, call).await?)?;
        Ok(page.event_source_mappings)
    }

    /// All lines that the stack's functions have logged.
    pub async fn logs(&self, outputs: &Outputs) -> Result<String, Error> {
        stacks::logs(&self.api, &outputs.stack).await
    }
}

/// The environment variables that direct an AWS client to the emulator at `endpoint`.
pub fn environment(endpoint: &str) -> [(&'static str, String); 4] {
    [
        ("AWS_ENDPOINT_URL", endpoint.into()),
        ("AWS_DEFAULT_REGION", REGION.into()),
        ("AWS_ACCESS_KEY_ID", "test".into()),
        ("AWS_SECRET_ACCESS_KEY", "test".into()),
    ]
}

/// The configuration of AWS clients for the emulator at `endpoint`.
pub fn sdk_config(endpoint: &str) -> SdkConfig {
    postern_testing::config_for(endpoint, REGION, ("test", "test"))
}
