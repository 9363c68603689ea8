//! The configuration of AWS clients that call a person's own account.

use postern_runtime::aws::{SdkConfig, behavior_version, http_client};

/// The configuration that the AWS CLI would use: the environment, profiles, single sign-on and `credential_process`.
pub async fn user_config() -> SdkConfig {
    aws_config::defaults(behavior_version()).http_client(http_client()).load().await
}
