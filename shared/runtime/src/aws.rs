//! AWS clients' common configuration, and what an AWS error means.

use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader, SdkConfig};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_smithy_types::retry::RetryConfig;

/// The configuration that every client is made from, once, at cold start: region, credentials and endpoints
/// (`AWS_ENDPOINT_URL`) from the environment; three attempts within ten seconds, below the functions' own
/// timeout, so that an error has a name instead of being Lambda's `Sandbox.Timedout`.
pub async fn config() -> SdkConfig {
    loader().load().await
}

/// The settings that [`config`] loads: the HTTP client, the timeouts and the retries. Callers add an endpoint or
/// credentials of their own before they load it.
pub fn loader() -> ConfigLoader {
    // ring: the first TLS handshake costs a sixth of what aws-lc's entropy source makes of it.
    let http =
        aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(2))
        .operation_attempt_timeout(Duration::from_secs(4))
        .operation_timeout(Duration::from_secs(10))
        .build();
    aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(http)
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard().with_max_attempts(3))
}

/// What to do about a failed call, after the SDK's own retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The service asks for fewer calls: later is better.
    Throttled,
    /// The service is down, or not to be reached in time: later is better.
    Unavailable,
    /// The caller's role or the key's policy says no: only a change of permissions helps.
    Denied,
    /// The request is more than the service takes.
    TooLarge,
    /// The service does not take it; its code says why.
    Refused,
}

/// Reads an error of any AWS client: what it means, and a line that says it, without the request's content.
pub fn failure<E>(error: &SdkError<E, HttpResponse>) -> (Failure, String)
where
    E: ProvideErrorMetadata,
{
    let (SdkError::ServiceError(_) | SdkError::ResponseError(_)) = error else {
        let what = match error {
            SdkError::TimeoutError(_) => "no answer in time",
            SdkError::DispatchFailure(failure) if failure.is_timeout() => "no connection in time",
            SdkError::DispatchFailure(failure) if failure.is_io() => "no connection",
            SdkError::DispatchFailure(_) => "the request could not be sent",
            _ => "the request could not be made",
        };
        return (Failure::Unavailable, what.to_owned());
    };
    let status = error.raw_response().map_or(0, |response| response.status().as_u16());
    let code = error.code().unwrap_or("no error code");
    (kind(status, code), format!("{code} (HTTP {status})"))
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
    fn a_code_says_more_than_a_status() {
        assert_eq!(kind(400, "ThrottlingException"), Failure::Throttled);
        assert_eq!(kind(503, "SlowDown"), Failure::Throttled);
        assert_eq!(kind(429, "no error code"), Failure::Throttled);
        assert_eq!(kind(400, "AccessDeniedException"), Failure::Denied);
        assert_eq!(kind(403, "no error code"), Failure::Denied);
        assert_eq!(kind(413, "no error code"), Failure::TooLarge);
        assert_eq!(kind(503, "ServiceUnavailable"), Failure::Unavailable);
        assert_eq!(kind(400, "InvalidRequestException"), Failure::Refused);
    }
}
