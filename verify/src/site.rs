//! The stack under test, and the names that a run uses in its account.

use std::path::PathBuf;
use std::time::Duration;

use aws_sdk_sfn::Client;
use http::Method;
use postern_local::{Api, Executions, Finished, Outputs, Project, sdk_config};
use postern_runtime::aws::SdkConfig;
use serde_json::Value;

use crate::cleanup::{Cleanup, Created, iot};
use crate::error::Error;
use crate::options::{Options, Target};

/// How long one execution may take. The longest waits for a heartbeat timeout and a retry.
const TIMEOUT: Duration = Duration::from_mins(3);

/// How often an execution is looked at on AWS, whose quotas are shared with production.
const AWS_INTERVAL: Duration = Duration::from_millis(500);

/// The stack, the clients for its account, and what belongs to this run alone.
pub(crate) struct Site {
    pub(crate) options: Options,
    pub(crate) config: SdkConfig,
    pub(crate) api: Api,
    pub(crate) sfn: Client,
    pub(crate) executions: Executions,
    pub(crate) outputs: Outputs,
    pub(crate) cleanup: Cleanup,
    pub(crate) project: Project,
    /// The unique prefix of everything that this run creates.
    pub(crate) run: String,
    /// The tenant of this run.
    pub(crate) tenant: String,
    /// The MQTT broker, as `HOST` or `HOST:PORT`.
    pub(crate) broker: String,
    /// The CA of the broker; the system's CAs on AWS.
    pub(crate) ca: Option<String>,
    /// The folder of this run's keys and logs.
    pub(crate) folder: PathBuf,
}

impl Site {
    /// Reads the stack's outputs and resources, and chooses the names of this run.
    pub(crate) async fn open(options: Options) -> Result<Self, Error> {
        let config = match options.target {
            Target::Local => sdk_config(&options.endpoint),
            Target::Aws => postern_local::user_config().await,
        };
        let outputs = Outputs::of_stack(&config, &options.stack).await?;
        let api = Api::new(config.clone())?;
        let sfn = Client::new(&config);

        let project = Project::here()?;
        let run = format!("verify-{:08x}", fastrand::u32(..));
        let tenant = tenant(&options, &outputs, &run)?;
        let cleanup = Cleanup::new(api.clone(), sfn.clone());
        let folder = project.file(".postern").join(&run);
        cleanup.add(Created::Folder(folder.clone()));
        let (broker, ca) = broker(&options, &api, &outputs).await?;

        let mut executions = Executions::new(&config);
        if options.target == Target::Aws {
            executions = executions.every(AWS_INTERVAL);
        }
        Ok(Self {
            options,
            config,
            api,
            sfn,
            executions,
            outputs,
            cleanup,
            project,
            run,
            tenant,
            broker,
            ca,
            folder,
        })
    }

    /// Whether the stack is in a real account.
    pub(crate) fn is_aws(&self) -> bool {
        self.options.target == Target::Aws
    }

    /// Whether the stack runs jobs on premises.
    pub(crate) fn has_jobs(&self) -> bool {
        !self.outputs.get("WorkerPolicyName").is_empty()
    }

    /// Starts an execution. The clean-up stops it if it still runs then.
    pub(crate) async fn start(&self, machine: &str, input: &Value) -> Result<String, Error> {
        let execution = self.executions.start(machine, &input.to_string()).await?;
        self.cleanup.add(Created::Execution(execution.clone()));
        Ok(execution)
    }

    /// Waits for the end of an execution.
    pub(crate) async fn end(&self, execution: &str) -> Result<Finished, Error> {
        let finished = self.executions.end(execution, TIMEOUT).await?;
        self.cleanup.forget(&Created::Execution(execution.into()));
        Ok(finished)
    }

    /// Runs an execution to its end; its ARN, and how it ended.
    pub(crate) async fn run(&self, machine: &str, input: &Value) -> Result<(String, Finished), Error> {
        let execution = self.start(machine, input).await?;
        let finished = self.end(&execution).await?;
        Ok((execution, finished))
    }
}

/// The run's own tenant, unless the stack handles one tenant only.
fn tenant(options: &Options, outputs: &Outputs, run: &str) -> Result<String, Error> {
    let filter = outputs.parameter("TenantFilter");
    match &options.tenant {
        Some(tenant) => Ok(tenant.clone()),
        None if filter == "+" || filter.is_empty() => Ok(run.to_owned()),
        None => Err(Error::Invalid(format!(
            "The stack {} handles the tenant {filter} only (parameter TenantFilter), so a tenant of its own is of no use \
             to the verification. Stop the workers of {filter} and repeat with TENANT={filter}.",
            outputs.stack()
        ))),
    }
}

/// The address of the MQTT broker and the certificate of its CA.
async fn broker(options: &Options, api: &Api, outputs: &Outputs) -> Result<(String, Option<String>), Error> {
    if outputs.get("WorkerPolicyName").is_empty() {
        return Ok((String::new(), None));
    }
    if options.target == Target::Local {
        let (_, ca) = api.open(Method::GET, &format!("{}/_ministack/iot/ca.pem", options.endpoint)).await?;
        return Ok((options.broker.clone(), Some(ca)));
    }

    let body = iot(api, Method::GET, "/endpoint?endpointType=iot%3AData-ATS", &[], "").await?;
    let address: Value = serde_json::from_slice(&body).unwrap_or_default();
    match address["endpointAddress"].as_str() {
        Some(host) => Ok((host.to_owned(), None)),
        None => Err(Error::Aws("IoT DescribeEndpoint names no address".into())),
    }
}
