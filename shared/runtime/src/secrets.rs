//! Reads secrets from AWS Secrets Manager with one signed request.
//!
//! The SDK's client of Secrets Manager makes a function that calls nothing else of AWS twice as large. This module only
//! reads; it keeps no secret.

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
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use serde_json::json;

use crate::env::{Environment, InvalidVariable};

/// The time limit of one attempt. Three attempts stay below the functions' own timeout.
const ATTEMPT: Duration = Duration::from_secs(3);

/// The number of attempts of one read.
const ATTEMPTS: u32 = 3;

/// The pause before the second attempt; the pause before the third is twice as long.
const PAUSE: Duration = Duration::from_millis(100);

/// The most bytes of an answer that are read. A secret has at most 65,536 bytes.
const ANSWER_BYTES: usize = 262_144;

/// Why a secret cannot be read. The text contains no part of the secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the secret {id} cannot be read: {reason}")]
pub struct UnreadableSecret {
    id: String,
    reason: String,
}

/// The version of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// The version that is in use, `AWSCURRENT`.
    Current,
    /// The version that was in use before the last rotation, `AWSPREVIOUS`.
    Previous,
}

impl Version {
    fn stage(self) -> &'static str {
        match self {
            Self::Current => "AWSCURRENT",
            Self::Previous => "AWSPREVIOUS",
        }
    }
}

/// A store of secrets: AWS Secrets Manager, or a stand-in in a test.
#[expect(async_fn_in_trait, reason = "functions run on one thread, so the future need not be Send")]
pub trait ReadSecret {
    /// The text of a secret, by its ARN or name. A version that does not exist is `None`.
    async fn read(&self, id: &str, version: Version) -> Result<Option<String>, UnreadableSecret>;
}

/// AWS Secrets Manager.
pub struct SecretsManager {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    endpoint: Uri,
    region: String,
    credentials: Credentials,
}

impl SecretsManager {
    /// A client with the Region, the credentials and the endpoint (`AWS_ENDPOINT_URL`) that Lambda sets for a function.
    pub fn from_env(environment: &Environment<'_>) -> Result<Self, InvalidVariable> {
        let text = |text: &str| Ok::<_, Infallible>(text.to_owned());
        let (region, service) = environment.required("AWS_REGION", "eu-west-1", |region| {
            Ok::<_, InvalidUri>((region.to_owned(), host(region)?))
        })?;
        let endpoint =
            environment.parse_optional("AWS_ENDPOINT_URL", "http://127.0.0.1:4566", str::parse::<Uri>)?;
        let endpoint = endpoint.unwrap_or(service);

        let key = environment.required("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE", text)?;
        let secret = environment.required("AWS_SECRET_ACCESS_KEY", "the-secret-of-the-key", text)?;
        let session = environment.parse_optional("AWS_SESSION_TOKEN", "the-token-of-the-session", text)?;
        let credentials = Credentials::new(key, secret, session, None, "environment");

        let tls = endpoint.scheme_str() == Some("https");
        Ok(Self { client: client(tls), endpoint, region, credentials })
    }

    /// One attempt. An error says whether another attempt can succeed.
    async fn attempt(&self, id: &str, version: Version) -> Result<Option<String>, Failed> {
        let exchange = async {
            let response = self.client.request(self.request(id, version)?).await;
            let (parts, body) = response.map_err(|error| Failed::again(innermost(&error)))?.into_parts();
            let body = Limited::new(body, ANSWER_BYTES).collect().await;
            let body = body.map_err(|error| Failed::again(error.to_string()))?.to_bytes();
            answer(parts.status, &body, version)
        };
        let exchange = tokio::time::timeout(ATTEMPT, exchange).await;
        exchange.unwrap_or_else(|_| Err(Failed::again(format!("no answer within {ATTEMPT:?}"))))
    }

    /// The signed request.
    fn request(&self, id: &str, version: Version) -> Result<Request<Full<Bytes>>, Failed> {
        let body = json!({"SecretId": id, "VersionStage": version.stage()}).to_string();
        let request = Request::post(&self.endpoint)
            .header(CONTENT_TYPE, "application/x-amz-json-1.1")
            .header("x-amz-target", "secretsmanager.GetSecretValue");
        let mut request = request.body(()).map_err(Failed::at_once)?;

        let identity = self.credentials.clone().into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("secretsmanager")
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(Failed::at_once)?
            .into();
        let uri = request.uri().to_string();
        let headers = request.headers().iter();
        let headers = headers.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let signable = SignableRequest::new("POST", uri, headers, SignableBody::Bytes(body.as_bytes()));
        let signed = sign(signable.map_err(Failed::at_once)?, &parameters).map_err(Failed::at_once)?;
        signed.into_parts().0.apply_to_request_http1x(&mut request);

        Ok(request.map(|()| Full::from(body)))
    }
}

impl ReadSecret for SecretsManager {
    async fn read(&self, id: &str, version: Version) -> Result<Option<String>, UnreadableSecret> {
        let mut attempts = 1;
        loop {
            match self.attempt(id, version).await {
                Ok(secret) => return Ok(secret),
                Err(failed) if failed.again && attempts < ATTEMPTS => {}
                Err(failed) => return Err(UnreadableSecret { id: id.to_owned(), reason: failed.reason }),
            }
            tokio::time::sleep(PAUSE * attempts).await;
            attempts += 1;
        }
    }
}

/// A failed attempt.
struct Failed {
    reason: String,
    /// Whether another attempt can succeed.
    again: bool,
}

impl Failed {
    fn again(reason: impl Display) -> Self {
        Self { reason: reason.to_string(), again: true }
    }

    fn at_once(reason: impl Display) -> Self {
        Self { reason: reason.to_string(), again: false }
    }
}

/// The service's address in a Region. The Regions of China have a domain of their own.
fn host(region: &str) -> Result<Uri, InvalidUri> {
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    format!("https://secretsmanager.{region}.{domain}/").parse()
}

fn client(tls: bool) -> Client<HttpsConnector<HttpConnector>, Full<Bytes>> {
    let mut roots = RootCertStore::empty();
    if tls {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let tls = ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_protocol_versions(rustls::ALL_VERSIONS);
    let Ok(tls) = tls else { unreachable!("ring supports every protocol version of rustls") };
    let tls = tls.with_root_certificates(roots).with_no_client_auth();

    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
    Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector.wrap_connector(tcp))
}

/// Reads the service's answer.
fn answer(status: StatusCode, body: &[u8], version: Version) -> Result<Option<String>, Failed> {
    #[derive(Deserialize)]
    struct Secret {
        #[serde(rename = "SecretString")]
        text: Option<String>,
    }
    #[derive(Deserialize)]
    struct Refusal {
        #[serde(rename = "__type")]
        code: String,
    }

    if status.is_success() {
        let secret: Secret = serde_json::from_slice(body)
            .map_err(|_| Failed::at_once("the answer is not one of AWS Secrets Manager"))?;
        let text = secret.text.ok_or_else(|| Failed::at_once("it is binary; store it as text"))?;
        return Ok(Some(text));
    }

    let code =
        serde_json::from_slice(body).map_or("no error code".to_owned(), |refusal: Refusal| refusal.code);
    let code = code.rsplit('#').next().unwrap_or_default();
    if code == "ResourceNotFoundException" && version == Version::Previous {
        return Ok(None);
    }
    let again =
        status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS || code.starts_with("Throttling");
    Err(Failed { reason: format!("{code} (HTTP {})", status.as_u16()), again })
}

/// The last error of a chain: the one that names DNS, a refused connection or TLS.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests;
