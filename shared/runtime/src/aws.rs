//! The common configuration of AWS clients, and the meaning of their errors.

use std::error::Error;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_smithy_async::time::{SharedTimeSource, SystemTimeSource};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::behavior_version::BehaviorVersion;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::sdk_config::Builder;
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};
pub use aws_types::{SdkConfig, region::Region};

/// The configuration from which a function makes its clients, once, at cold start.
///
/// Region (`AWS_REGION`), credentials (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`) and endpoints
/// (`AWS_ENDPOINT_URL` and its forms for one service, such as `AWS_ENDPOINT_URL_SFN`) come from the environment, where
/// Lambda puts them. Profiles, single sign-on and instance roles are not read: the crate that reads them adds 0.9 MB to
/// each function, and calls STS, which no function needs.
pub fn config() -> SdkConfig {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let mut builder = builder();
    if let (Some(id), Some(secret)) = (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")) {
        let credentials =
            Credentials::new(id, secret, variable("AWS_SESSION_TOKEN"), None::<SystemTime>, "environment");
        builder.set_credentials_provider(Some(SharedCredentialsProvider::new(credentials)));
    }

    builder.set_region(variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION")).map(Region::new));
    builder.set_endpoint_url(variable("AWS_ENDPOINT_URL"));
    builder.set_service_config(Some(ServiceEndpoints));
    builder.build()
}

/// The settings of [`config`] that do not come from the environment: the HTTP client, the timeouts and the retries.
///
/// A call makes up to three attempts within ten seconds. That is below the functions' own timeout, so that an error has
/// its own name instead of Lambda's `Sandbox.Timedout`.
pub fn builder() -> Builder {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(2))
        .operation_attempt_timeout(Duration::from_secs(4))
        .operation_timeout(Duration::from_secs(10))
        .build();

    SdkConfig::builder()
        .behavior_version(behavior_version())
        .http_client(http_client())
        .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
        .time_source(SharedTimeSource::new(SystemTimeSource::new()))
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard().with_max_attempts(3))
}

/// The version of the SDK's defaults that all clients use.
pub fn behavior_version() -> BehaviorVersion {
    BehaviorVersion::v2026_01_12()
}

/// The HTTP client of all AWS clients. With ring the first TLS handshake costs a sixth of the CPU time that aws-lc needs,
/// whose entropy source is slow.
pub fn http_client() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}

/// Reads the settings of single services from the environment, such as `AWS_ENDPOINT_URL_SECRETS_MANAGER`.
/// Source: the AWS SDKs and Tools Reference Guide, "Service-specific endpoints".
#[derive(Debug)]
struct ServiceEndpoints;

impl LoadServiceConfig for ServiceEndpoints {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        std::env::var(variable_of(&key)).ok().filter(|value| !value.is_empty())
    }
}

/// The environment variable with the setting of one service.
fn variable_of(key: &ServiceConfigKey<'_>) -> String {
    format!("{}_{}", key.env(), key.service_id().to_uppercase().replace(' ', "_"))
}

/// The kind of a failed call, after the SDK's own retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The service throttled the call. A later call can succeed.
    Throttled,
    /// The service failed, or did not answer in time. A later call can succeed.
    Unavailable,
    /// The caller's role or the key's policy does not allow the call. Only a change of permissions helps.
    Denied,
    /// The request exceeds the service's size limit.
    TooLarge,
    /// The service refused the request. Its error code gives the reason.
    Refused,
}

/// Reads an error of any AWS client: its kind, and a description without the request's content.
///
/// The description is the service's error code and HTTP status. Where no service answered, it is the innermost cause,
/// such as "Connection refused".
pub fn failure<E>(error: &SdkError<E, HttpResponse>) -> (Failure, String)
where
    E: ProvideErrorMetadata,
{
    let (SdkError::ServiceError(_) | SdkError::ResponseError(_)) = error else {
        return (Failure::Unavailable, unanswered(error));
    };

    let status = error.raw_response().map_or(0, |response| response.status().as_u16());
    let code = error.code().unwrap_or("no error code");
    (kind(status, code), format!("{code} (HTTP {status})"))
}

/// Describes the failure of a request that no service answered.
fn unanswered<E>(error: &SdkError<E, HttpResponse>) -> String {
    let (problem, cause): (_, Option<&(dyn Error + 'static)>) = match error {
        SdkError::TimeoutError(_) => return "no answer within the time limit".to_owned(),
        SdkError::DispatchFailure(failure) => {
            let cause = failure.as_connector_error().map(|error| error as _);
            let timed_out = failure.is_timeout();
            (if timed_out { "the connection timed out" } else { "the connection failed" }, cause)
        }
        SdkError::ConstructionFailure(_) => return "the request could not be built".to_owned(),
        _ => ("the request failed", None),
    };
    cause.map_or_else(|| problem.to_owned(), |cause| format!("{problem}: {}", innermost(cause)))
}

/// The last error of a chain: the one that names DNS, a refused connection, TLS or a timeout.
fn innermost<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost
}

/// Tests for an error code with which Step Functions says that a task has ended, timed out or never existed. A repeated
/// call changes nothing.
pub fn is_closed_task(code: Option<&str>) -> bool {
    matches!(code, Some("TaskTimedOut" | "TaskDoesNotExist" | "InvalidToken"))
}

fn kind(status: u16, code: &str) -> Failure {
    const THROTTLED: [&str; 6] = [
        "ThrottlingException",
        "Throttling",
        "TooManyRequestsException",
        "RequestLimitExceeded",
        "KmsThrottlingException",
        "SlowDown",
    ];
    const DENIED: [&str; 7] = [
        "AccessDeniedException",
        "AccessDenied",
        "UnauthorizedException",
        "ForbiddenException",
        "KmsAccessDeniedException",
        "UnrecognizedClientException",
        "ExpiredTokenException",
    ];
    match status {
        _ if THROTTLED.contains(&code) => Failure::Throttled,
        _ if DENIED.contains(&code) => Failure::Denied,
        429 => Failure::Throttled,
        401 | 403 => Failure::Denied,
        413 => Failure::TooLarge,
        0 | 500.. => Failure::Unavailable,
        _ => Failure::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_code_decides_before_the_status() {
        assert_eq!(kind(400, "ThrottlingException"), Failure::Throttled);
        assert_eq!(kind(503, "SlowDown"), Failure::Throttled);
        assert_eq!(kind(429, "no error code"), Failure::Throttled);
        assert_eq!(kind(400, "AccessDeniedException"), Failure::Denied);
        assert_eq!(kind(403, "no error code"), Failure::Denied);
        assert_eq!(kind(413, "no error code"), Failure::TooLarge);
        assert_eq!(kind(503, "ServiceUnavailable"), Failure::Unavailable);
        assert_eq!(kind(400, "InvalidRequestException"), Failure::Refused);
    }

    #[test]
    fn the_endpoint_of_one_service_has_the_variable_that_aws_documents() {
        let key = ServiceConfigKey::builder()
            .service_id("IoT Data Plane")
            .env("AWS_ENDPOINT_URL")
            .profile("endpoint_url");
        assert_eq!(variable_of(&key.build().unwrap()), "AWS_ENDPOINT_URL_IOT_DATA_PLANE");
    }
}
