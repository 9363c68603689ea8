//! AWS client configuration for servers on this machine.

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use postern_runtime::aws::{Region, SdkConfig};

/// The configuration of the deployed functions' AWS clients, pointed at `endpoint` with the access key `key` (its id
/// and its secret).
///
/// The environment and the shared AWS configuration files are not read for these values, so that no call of a test or
/// a demo reaches a real account.
pub fn config_for(endpoint: &str, region: &'static str, key: (&str, &str)) -> SdkConfig {
    let credentials = Credentials::new(key.0, key.1, None, None, "postern-testing");
    postern_runtime::aws::builder()
        .endpoint_url(endpoint)
        .region(Region::new(region))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build()
}
