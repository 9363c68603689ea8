//! Calls an AWS service of the JSON protocols with one signed request, without the service's SDK client.
//!
//! An SDK client adds about a megabyte to a function. A function that makes one or two kinds of calls builds them here
//! from JSON: [`crate::secrets`] reads secrets so, and `postern-jobs` its table. The module knows no operation of any
//! service.

use std::convert::Infallible;
use std::fmt::Display;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::uri::InvalidUri;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use serde::Deserialize;

use crate::env::{Environment, InvalidVariable};
use crate::transport::{Client, client, domain, innermost};

/// The number of attempts of one call.
const ATTEMPTS: u32 = 3;

/// What the calls of one service have in common.
#[derive(Debug, Clone, Copy)]
pub struct Service {
    /// The name in the service's host name and in signatures, such as `dynamodb`.
    pub name: &'static str,
    /// What `x-amz-target` names before the operation, such as `DynamoDB_20120810`.
    pub target: &'static str,
    /// The content type of requests. It names the version of the protocol.
    pub content_type: &'static str,
    /// The time limit of one attempt. Three attempts must stay below the function's own timeout.
    pub attempt: Duration,
    /// The pause before the second attempt, at least. The pause before the third is twice as long.
    pub pause: Duration,
    /// The most bytes of an answer that are read.
    pub answer_bytes: usize,
}

/// Why a call failed, after its attempts. The text contains neither the request nor the answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct CallFailed {
    /// The service's error code, such as `ConditionalCheckFailedException`. It is empty if no service answered.
    pub code: String,
    /// The error code and the HTTP status, or the innermost cause where no service answered.
    pub reason: String,
    /// Whether a later call can succeed: the service throttled or failed, or did not answer.
    pub again: bool,
}

impl CallFailed {
    fn again(reason: impl Display) -> Self {
        Self { code: String::new(), reason: reason.to_string(), again: true }
    }

    fn at_once(reason: impl Display) -> Self {
        Self { code: String::new(), reason: reason.to_string(), again: false }
    }
}

/// A client of one AWS service, with one pool of connections. A clone shares the pool.
#[derive(Clone)]
pub struct SignedClient {
    client: Client,
    service: Service,
    endpoint: Uri,
    region: String,
    credentials: Credentials,
}

impl SignedClient {
    /// A client with these credentials, which must not expire while it is used. Without `endpoint` it calls AWS.
    pub fn new(
        service: Service,
        region: &str,
        endpoint: Option<&str>,
        credentials: Credentials,
    ) -> Result<Self, InvalidUri> {
        let endpoint = match endpoint {
            Some(endpoint) => endpoint.parse()?,
            None => host(service.name, region)?,
        };
        let tls = endpoint.scheme_str() == Some("https");
        Ok(Self { client: client(tls), service, endpoint, region: region.to_owned(), credentials })
    }

    /// A client with the Region, the credentials and the endpoint (`AWS_ENDPOINT_URL`) that Lambda sets for a function.
    pub fn from_env(environment: &Environment<'_>, service: Service) -> Result<Self, InvalidVariable> {
        let text = |text: &str| Ok::<_, Infallible>(text.to_owned());
        let (region, address) = environment.required("AWS_REGION", "eu-west-1", |region| {
            Ok::<_, InvalidUri>((region.to_owned(), host(service.name, region)?))
        })?;
        let endpoint =
            environment.parse_optional("AWS_ENDPOINT_URL", "http://127.0.0.1:4566", str::parse::<Uri>)?;
        let endpoint = endpoint.unwrap_or(address);

        let key = environment.required("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE", text)?;
        let secret = environment.required("AWS_SECRET_ACCESS_KEY", "the-secret-of-the-key", text)?;
        let session = environment.parse_optional("AWS_SESSION_TOKEN", "the-token-of-the-session", text)?;
        let credentials = Credentials::new(key, secret, session, None, "environment");

        let tls = endpoint.scheme_str() == Some("https");
        Ok(Self { client: client(tls), service, endpoint, region, credentials })
    }

    /// Calls `operation` with a JSON `body`, and returns the body of the answer. A throttled or failed attempt is
    /// repeated after a pause with jitter, so that many functions that were throttled together do not come together again.
    pub async fn call(&self, operation: &str, body: &str) -> Result<Bytes, CallFailed> {
        let mut attempts = 1;
        loop {
            match self.attempt(operation, body).await {
                Err(failed) if failed.again && attempts < ATTEMPTS => {}
                done => return done,
            }

            let pause = self.service.pause * attempts;
            tokio::time::sleep(pause + pause.mul_f64(fastrand::f64())).await;
            attempts += 1;
        }
    }

    /// One attempt.
    async fn attempt(&self, operation: &str, body: &str) -> Result<Bytes, CallFailed> {
        let limit = self.service.attempt;
        let exchange = async {
            let response = self.client.request(self.request(operation, body)?).await;
            let (parts, body) = response.map_err(|error| CallFailed::again(innermost(&error)))?.into_parts();

            let body = Limited::new(body, self.service.answer_bytes).collect().await;
            let body = body.map_err(|error| CallFailed::again(error.to_string()))?.to_bytes();
            if parts.status.is_success() { Ok(body) } else { Err(refusal(parts.status, &body)) }
        };

        let exchange = tokio::time::timeout(limit, exchange).await;
        exchange.unwrap_or_else(|_| Err(CallFailed::again(format!("no answer within {limit:?}"))))
    }

    /// The signed request.
    fn request(&self, operation: &str, body: &str) -> Result<Request<Full<Bytes>>, CallFailed> {
        let request = Request::post(&self.endpoint)
            .header(CONTENT_TYPE, self.service.content_type)
            .header("x-amz-target", format!("{}.{operation}", self.service.target));
        let mut request = request.body(()).map_err(CallFailed::at_once)?;

        let identity = self.credentials.clone().into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(self.service.name)
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(CallFailed::at_once)?
            .into();
        let uri = request.uri().to_string();
        let headers = request.headers().iter();
        let headers = headers.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let signable = SignableRequest::new("POST", uri, headers, SignableBody::Bytes(body.as_bytes()));
        let signable = signable.map_err(CallFailed::at_once)?;
        let signed = sign(signable, &parameters).map_err(CallFailed::at_once)?;
        signed.into_parts().0.apply_to_request_http1x(&mut request);

        Ok(request.map(|()| Full::from(body.to_owned())))
    }
}

/// The service's address in a Region.
fn host(service: &str, region: &str) -> Result<Uri, InvalidUri> {
    format!("https://{service}.{region}.{}/", domain(&region)).parse()
}

/// Reads an answer that is no success.
fn refusal(status: StatusCode, body: &[u8]) -> CallFailed {
    #[derive(Deserialize)]
    struct Refusal {
        #[serde(rename = "__type")]
        code: String,
    }

    let code =
        serde_json::from_slice(body).map_or("no error code".to_owned(), |refusal: Refusal| refusal.code);
    let code = code.rsplit('#').next().unwrap_or_default().to_owned();
    let is_throttled = code.starts_with("Throttling")
        || matches!(&*code, "ProvisionedThroughputExceededException" | "RequestLimitExceeded");
    let again = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS || is_throttled;
    CallFailed { reason: format!("{code} (HTTP {})", status.as_u16()), code, again }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_regions_of_china_have_a_domain_of_their_own() {
        let host = |region| host("secretsmanager", region).unwrap().host().map(str::to_owned);
        assert_eq!(host("eu-west-1").unwrap(), "secretsmanager.eu-west-1.amazonaws.com");
        assert_eq!(host("cn-north-1").unwrap(), "secretsmanager.cn-north-1.amazonaws.com.cn");
    }

    #[test]
    fn a_throttled_or_failed_call_can_be_repeated_and_a_refused_one_cannot() {
        for (status, code, again) in [
            (400, "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException", true),
            (400, "com.amazon.coral.availability#ThrottlingException", true),
            (400, "RequestLimitExceeded", true),
            (429, "x", true),
            (500, "InternalServerError", true),
            (400, "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException", false),
            (400, "AccessDeniedException", false),
        ] {
            let body = format!(r#"{{"__type":"{code}","message":"m"}}"#);
            let failed = refusal(StatusCode::from_u16(status).unwrap(), body.as_bytes());
            assert_eq!((failed.again, &*failed.code), (again, code.rsplit('#').next().unwrap()));
        }
    }
}
