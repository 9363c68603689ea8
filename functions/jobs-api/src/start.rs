//! The start of the function: its configuration, its secrets and its clients.

use std::collections::BTreeMap;
use std::convert::Infallible;

use jiff::Timestamp;
use postern_approval::{KeySource, Keyring};
use postern_jobs::DynamoJobs;
use postern_runtime::env::{Environment, InvalidVariable};
use postern_runtime::secrets::{ReadSecret as _, SecretsManager, UnreadableSecret, Version};

use crate::config::Config;
use crate::handler::Api;

/// The reasons for which the function does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Variable(#[from] InvalidVariable),
    #[error(transparent)]
    Unreadable(#[from] UnreadableSecret),
    #[error(transparent)]
    Keys(#[from] postern_approval::Error),
    #[error(
        "the secret in GRIP_SECRET must be a JSON object of texts, with GRIP_VERIFY_KEY and GRIP_CHANNEL_KEY"
    )]
    NoObject,
    #[error("environment variable JOBS_TABLE: it is not set; set it to the name of the table of jobs")]
    NoTable,
}

/// The API with the clients of AWS.
pub(crate) async fn api(
    environment: Environment<'static>,
) -> Result<Api<DynamoJobs, aws_sdk_sfn::Client, aws_sdk_iotdataplane::Client, SecretsManager>, StartError> {
    let jobs = DynamoJobs::from_env(&environment)?.ok_or(StartError::NoTable)?;
    let secrets = SecretsManager::from_env(&environment)?;
    let values = grip_values(&environment, &secrets).await?;
    let environment = environment.with(values);
    let config = Config::from_env(&environment)?;
    let keys = keys(&environment, secrets).await?;

    let aws = postern_runtime::aws::config();
    let (step_functions, broker) = (aws_sdk_sfn::Client::new(&aws), aws_sdk_iotdataplane::Client::new(&aws));
    Ok(Api { config, jobs, step_functions, broker, keys })
}

/// The members of the secret that `GRIP_SECRET` names, which take the place of environment variables.
async fn grip_values(
    environment: &Environment<'_>,
    secrets: &SecretsManager,
) -> Result<BTreeMap<String, String>, StartError> {
    const EXAMPLE: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:grip";
    let text = |text: &str| Ok::<_, Infallible>(text.to_owned());
    let Some(id) = environment.parse_optional("GRIP_SECRET", EXAMPLE, text)? else {
        return Ok(BTreeMap::new());
    };

    let secret = secrets.read(&id, Version::Current).await?.ok_or(StartError::NoObject)?;
    serde_json::from_str(&secret).map_err(|_| StartError::NoObject)
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
