//! The start of the function: its configuration, its secrets and its clients.

use std::convert::Infallible;
use std::time::Instant;

use jiff::Timestamp;
use postern_approval::{KeySource, Keyring};
use postern_jobs::DynamoJobs;
use postern_runtime::env::{Environment, InvalidVariable};
use postern_runtime::rotation::{ConfigError, Rotating};
use postern_runtime::secrets::SecretsManager;

use crate::config::Config;
use crate::handler::Api;

/// The reasons for which the function does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Variable(#[from] InvalidVariable),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Keys(#[from] postern_approval::Error),
    #[error("environment variable JOBS_TABLE: it is not set; set it to the name of the table of jobs")]
    NoTable,
}

/// The API with the clients of AWS. `environment` returns the process's environment.
pub(crate) async fn api(
    environment: impl Fn() -> Environment<'static> + 'static,
) -> Result<Api<DynamoJobs, aws_sdk_sfn::Client, aws_sdk_iotdataplane::Client, SecretsManager>, StartError> {
    let variables = environment();
    let jobs = DynamoJobs::from_env(&variables)?.ok_or(StartError::NoTable)?;
    let keys = keys(&variables, SecretsManager::from_env(&variables)?).await?;

    let config = |environment: &Environment<'_>| Ok(Config::from_env(environment)?);
    let config = Rotating::start(environment, SecretsManager::from_env, config, Instant::now()).await?;

    let aws = postern_runtime::aws::config();
    let (step_functions, broker) = (aws_sdk_sfn::Client::new(&aws), aws_sdk_iotdataplane::Client::new(&aws));
    Ok(Api { config, jobs, step_functions, broker, keys })
}

/// The keys of approvals, if the stack has approvals.
async fn keys(
    environment: &Environment<'_>,
    secrets: SecretsManager,
) -> Result<Option<Keyring<SecretsManager>>, StartError> {
    let text = |text: &str| Ok::<_, Infallible>(text.to_owned());
    if environment.parse_optional("APPROVAL_KEY_SECRET", "approval", text)?.is_none() {
        return Ok(None);
    }
    let source = KeySource::from_env(environment)?;
    Ok(Some(Keyring::open(source, secrets, Timestamp::now()).await?))
}
