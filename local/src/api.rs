//! Signed HTTP requests to the AWS services of which the local stack and the verification need only a few calls:
//! CloudFormation, Lambda, IoT Core, CloudWatch Logs, Secrets Manager, IAM and S3.
//!
//! Step Functions is called through its SDK crate. The SDK crates of the services here are left out on purpose: for a
//! dozen calls they would add some of the largest crates of the SDK to every build.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use aws_credential_types::provider::ProvideCredentials as _;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use postern_runtime::aws::SdkConfig;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;

use crate::error::Error;

/// How long one call may take. Uploading a function's debug build is the longest.
const TIMEOUT: Duration = Duration::from_mins(1);

/// S3 requires this header of every signed request. The name belongs to a body that is not part of the signature.
const UNSIGNED: (&str, &str) = ("x-amz-content-sha256", "UNSIGNED-PAYLOAD");

/// A client of AWS, or of an emulator.
#[derive(Debug, Clone)]
pub struct Api {
    http: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    config: SdkConfig,
}

/// One call of a service.
pub struct Call<'a> {
    /// The service's name in host names and signatures, such as `cloudformation`.
    pub service: &'static str,
    /// The HTTP method.
    pub method: Method,
    /// The path and query.
    pub path: &'a str,
    /// Headers besides the host's and the signature's.
    pub headers: &'a [(&'static str, &'a str)],
    /// The body.
    pub body: Bytes,
}

impl Api {
    /// A client with the endpoint, region and credentials of `config`.
    pub fn new(config: SdkConfig) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        if config.endpoint_url().is_none_or(|endpoint| endpoint.starts_with("https:")) {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        let tls = ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Aws(format!("TLS cannot be configured: {error}")))?
            .with_root_certificates(roots)
            .with_no_client_auth();

        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);

        Ok(Self { http: Client::builder(TokioExecutor::new()).build(connector), config })
    }

    /// Calls an action of a service with the query protocol (CloudFormation, IAM); the response is XML.
    pub(crate) async fn query(
        &self,
        service: &'static str,
        action: &str,
        parameters: &[(&str, &str)],
    ) -> Result<String, Error> {
        let version = if service == "iam" { "2010-05-08" } else { "2010-05-15" };
        let mut form = format!("Action={action}&Version={version}");
        for (name, value) in parameters {
            let value = percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC);
            // Writing to a String does not fail.
            let _ = write!(form, "&{name}={value}");
        }
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let call = Call { service, method: Method::POST, path: "/", headers: &headers, body: form.into() };
        let response = self.send(action, call).await?;
        Ok(String::from_utf8_lossy(&response).into_owned())
    }

    /// Calls a target of a service with the JSON 1.1 protocol (CloudWatch Logs, Secrets Manager).
    pub(crate) async fn json(
        &self,
        service: &'static str,
        target: &str,
        input: &Value,
    ) -> Result<Value, Error> {
        let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target)];
        let body = input.to_string().into();
        let call = Call { service, method: Method::POST, path: "/", headers: &headers, body };
        let response = self.send(target, call).await?;
        parse(target, &response)
    }

    /// Sends a call and returns the body of its response. `what` names the call in errors.
    pub async fn send(&self, what: &str, call: Call<'_>) -> Result<Bytes, Error> {
        let failed = |why: String| Error::Aws(format!("{what}: {why}"));
        let region = self.config.region().ok_or_else(|| failed("no AWS region is set".into()))?.to_string();
        let endpoint = self.config.endpoint_url().map_or_else(
            || format!("https://{}.{region}.amazonaws.com", call.service),
            |endpoint| endpoint.trim_end_matches('/').to_owned(),
        );

        let mut request = Request::builder().method(call.method).uri(format!("{endpoint}{}", call.path));
        for (name, value) in call.headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(()).map_err(|error| failed(error.to_string()))?;
        self.sign(call.service, &region, &mut request, &call.body).await.map_err(&failed)?;
        let request = request.map(|()| Full::new(call.body));

        let exchange = async {
            let response = self.http.request(request).await.map_err(|error| innermost(&error))?;
            let (parts, body) = response.into_parts();
            let body = body.collect().await.map_err(|error| innermost(&error))?.to_bytes();
            Ok((parts.status, body))
        };
        let exchanged = tokio::time::timeout(TIMEOUT, exchange).await;
        let (status, body) = exchanged
            .map_err(|_| Error::TimedOut(TIMEOUT, format!("{what} at {endpoint}")))?
            .map_err(|why: String| failed(format!("{endpoint}: {why}")))?;

        if !status.is_success() {
            return Err(failed(format!("{} (HTTP {})", reason(&body), status.as_u16())));
        }
        Ok(body)
    }

    /// Adds Signature Version 4. The body of an S3 request stays unsigned: it is large, and a debug build hashes slowly.
    async fn sign(
        &self,
        service: &str,
        region: &str,
        request: &mut Request<()>,
        body: &[u8],
    ) -> Result<(), String> {
        let provider = self.config.credentials_provider().ok_or("no AWS credentials are set")?;
        let credentials = provider.provide_credentials().await.map_err(|error| innermost(&error))?;
        let identity = credentials.into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(region)
            .name(service)
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| error.to_string())?
            .into();

        let (method, uri) = (request.method().to_string(), request.uri().to_string());
        let headers = request.headers().iter();
        let headers = headers.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let body = if service == "s3" { SignableBody::UnsignedPayload } else { SignableBody::Bytes(body) };
        let signable =
            SignableRequest::new(&method, uri, headers, body).map_err(|error| error.to_string())?;
        let (instructions, _) = sign(signable, &parameters).map_err(|error| error.to_string())?.into_parts();
        instructions.apply_to_request_http1x(request);
        Ok(())
    }

    /// Sends a request without a signature, as a browser does. Returns the status and the body of its response.
    pub async fn open(&self, method: Method, url: &str) -> Result<(u16, String), Error> {
        let failed = |why: String| Error::Aws(format!("{method} {url}: {why}"));
        let request = Request::builder().method(&method).uri(url).body(Full::new(Bytes::new()));
        let request = request.map_err(|error| failed(error.to_string()))?;

        let exchange = async {
            let response = self.http.request(request).await.map_err(|error| innermost(&error))?;
            let (parts, body) = response.into_parts();
            let body = body.collect().await.map_err(|error| innermost(&error))?.to_bytes();
            Ok((parts.status.as_u16(), String::from_utf8_lossy(&body).into_owned()))
        };
        let exchanged = tokio::time::timeout(TIMEOUT, exchange).await;
        exchanged.map_err(|_| Error::TimedOut(TIMEOUT, format!("{method} {url}")))?.map_err(failed)
    }

    /// Puts an object into a bucket.
    pub async fn put(&self, bucket: &str, key: &str, body: Bytes) -> Result<(), Error> {
        let headers = [UNSIGNED, (CONTENT_TYPE.as_str(), "application/octet-stream")];
        let path = format!("/{bucket}/{key}");
        let call = Call { service: "s3", method: Method::PUT, path: &path, headers: &headers, body };
        self.send("S3 PutObject", call).await.map(drop)
    }

    /// Deletes an object from a bucket.
    pub async fn delete(&self, bucket: &str, key: &str) -> Result<(), Error> {
        let path = format!("/{bucket}/{key}");
        let body = Bytes::new();
        let call = Call { service: "s3", method: Method::DELETE, path: &path, headers: &[UNSIGNED], body };
        self.send("S3 DeleteObject", call).await.map(drop)
    }

    /// The URL of an object of the emulator.
    pub(crate) fn object_url(&self, bucket: &str, key: &str) -> String {
        format!("{}/{bucket}/{key}", self.config.endpoint_url().unwrap_or_default())
    }

    /// Creates a bucket. A bucket that exists already is not an error.
    pub(crate) async fn create_bucket(&self, bucket: &str) -> Result<(), Error> {
        let path = format!("/{bucket}");
        let body = Bytes::new();
        let call = Call { service: "s3", method: Method::PUT, path: &path, headers: &[], body };
        match self.send("S3 CreateBucket", call).await {
            Err(Error::Aws(why)) if why.contains("BucketAlreadyOwnedByYou") => Ok(()),
            other => other.map(drop),
        }
    }
}

/// Parses a JSON response. `what` names the call in the error.
pub(crate) fn parse<T: serde::de::DeserializeOwned>(what: &str, response: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(response)
        .map_err(|error| Error::Aws(format!("{what}: unexpected response: {error}")))
}

/// The code and message of an AWS error, from XML or JSON.
fn reason(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    if let Ok(error) = serde_json::from_str::<Value>(&text) {
        let code = error["__type"].as_str().or(error["Type"].as_str()).unwrap_or_default();
        let message = error["message"].as_str().or(error["Message"].as_str()).unwrap_or_default();
        return format!("{code}: {message}");
    }
    match (element(&text, "Code"), element(&text, "Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        _ => text.lines().next().unwrap_or("no reason given").to_owned(),
    }
}

/// The text of the first element of this name in XML.
pub(crate) fn element(xml: &str, name: &str) -> Option<String> {
    let after = xml.split_once(&format!("<{name}>"))?.1;
    Some(after.split_once(&format!("</{name}>"))?.0.to_owned())
}

/// The innermost cause of an error: "connection refused" instead of "client error".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::reason;

    #[test]
    fn the_reason_of_an_xml_and_of_a_json_error_is_its_code_and_message() {
        let xml = b"<ErrorResponse><Error><Code>ValidationError</Code><Message>no stack x</Message></Error></ErrorResponse>";
        assert_eq!(reason(xml), "ValidationError: no stack x");
        assert_eq!(reason(br#"{"__type":"NotFound","message":"no group"}"#), "NotFound: no group");
        assert_eq!(reason(b"Bad Gateway\nmore"), "Bad Gateway");
    }
}
