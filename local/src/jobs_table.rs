//! The table of jobs of a deployed stack, read with the credentials of whoever runs the program.

use aws_credential_types::provider::ProvideCredentials as _;
use postern_jobs::DynamoJobs;
use postern_runtime::aws::SdkConfig;

use crate::outputs::Outputs;

/// The table of jobs of a stack. `None` if the stack has no jobs, or if there are no credentials.
pub async fn jobs_table(config: &SdkConfig, outputs: &Outputs) -> Option<DynamoJobs> {
    let table = Some(outputs.get("JobsTableName")).filter(|table| !table.is_empty())?;
    let credentials = config.credentials_provider()?.provide_credentials().await.ok()?;
    DynamoJobs::new(table, config.region()?.as_ref(), config.endpoint_url(), credentials).ok()
}
