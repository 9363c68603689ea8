//! A client of a schema registry with Confluent's API. Each schema is read once: a number stands for one schema for ever.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper::{Request, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use serde_json::Value;

use crate::avro::Schema;
use crate::error::Error;

/// The pause before the registry is asked again after it could not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// A registry, and the schemas that it has returned.
pub struct Registry {
    http: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    url: String,
    authorization: Option<HeaderValue>,
    schemas: HashMap<u32, Arc<Schema>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Registered {
    schema: String,
    /// Missing for Avro.
    schema_type: Option<String>,
    #[serde(default)]
    references: Vec<Value>,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Registry {
    /// Opens the registry at this URL. `user_info` is `user:password` for basic authentication. Fails if the registry does
    /// not answer: otherwise a wrong URL would appear only with the first record.
    pub async fn open(url: &str, user_info: Option<&str>) -> Result<Self, Error> {
        let basic = |info: &str| format!("Basic {}", base64_simd::STANDARD.encode_to_string(info));
        let authorization = user_info.and_then(|info| HeaderValue::from_str(&basic(info)).ok());
        let url = url.trim_end_matches('/').to_owned();
        let registry = Self { http: client(), url, authorization, schemas: HashMap::new() };

        let reason = match registry.get("/schemas/types").await {
            Ok((status, _)) if status.is_success() => return Ok(registry),
            Ok((status, _)) => format!("HTTP {}", status.as_u16()),
            Err(error) => innermost(&*error),
        };
        Err(Error::Registry { url: registry.url, reason })
    }

    /// The schema with this number. Asks until the registry answers: a record must not be given up because the registry is
    /// away.
    pub async fn schema(&mut self, id: u32) -> Result<Arc<Schema>, Error> {
        if let Some(schema) = self.schemas.get(&id) {
            return Ok(Arc::clone(schema));
        }

        let answer = loop {
            let reason = match self.get(&format!("/schemas/ids/{id}")).await {
                Ok((StatusCode::NOT_FOUND, _)) => return Err(Error::SchemaNotFound(id)),
                Ok((status, body)) if status.is_success() => break body,
                Ok((status, _)) => format!("HTTP {}", status.as_u16()),
                Err(error) => innermost(&*error),
            };
            tracing::warn!(id, reason, "the schema registry did not return a schema; asking again");
            tokio::time::sleep(PAUSE).await;
        };

        let schema = Arc::new(parse(id, &answer)?);
        self.schemas.insert(id, Arc::clone(&schema));
        Ok(schema)
    }

    async fn get(&self, path: &str) -> Result<(StatusCode, Bytes), Failure> {
        let mut request = Request::get(format!("{}{path}", self.url)).body(Empty::new())?;
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }

        let response = self.http.request(request).await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }
}

/// Reads the registry's answer.
fn parse(id: u32, answer: &[u8]) -> Result<Schema, Error> {
    let invalid = |reason: String| Error::InvalidSchema { id, reason };
    let found: Registered = serde_json::from_slice(answer).map_err(|error| invalid(error.to_string()))?;

    if let Some(format) = found.schema_type.filter(|format| format != "AVRO") {
        return Err(Error::Format { id, format });
    }
    if !found.references.is_empty() {
        return Err(Error::References(id));
    }
    Schema::parse(&found.schema).map_err(invalid)
}

fn client() -> Client<HttpsConnector<HttpConnector>, Empty<Bytes>> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let tls = ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_protocol_versions(rustls::ALL_VERSIONS);
    let Ok(tls) = tls else { unreachable!("ring supports every protocol version of rustls") };
    let tls = tls.with_root_certificates(roots).with_no_client_auth();

    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
    Client::builder(TokioExecutor::new()).build(connector)
}

/// The cause of an error: refused, a name that is unknown, a certificate.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use hyper::Response;
    use postern_testing::LoopbackServer;

    use super::*;

    #[tokio::test]
    async fn a_schema_is_asked_for_until_the_registry_answers_and_then_no_more() {
        let calls = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&calls);
        let server = LoopbackServer::start(move |request| {
            let mut calls = log.lock().unwrap();
            let login = request.headers()[AUTHORIZATION].to_str().unwrap();
            calls.push(format!("{} {login}", request.uri().path()));
            let mut response = Response::new(Bytes::from_static(br#"{"schema": "\"string\""}"#));
            // The second call is the first one for the schema.
            if calls.len() == 2 {
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            }
            response
        });

        let mut registry =
            Registry::open(&format!("{}/", server.url()), Some("user:password")).await.unwrap();
        for _ in 0..3 {
            assert!(registry.schema(7).await.is_ok());
        }
        let expected = ["/schemas/types", "/schemas/ids/7", "/schemas/ids/7"]
            .map(|path| format!("{path} Basic dXNlcjpwYXNzd29yZA=="));
        assert_eq!(*calls.lock().unwrap(), expected);
    }

    #[test]
    fn an_answer_of_the_registry_is_a_schema_or_an_error_with_its_reason() {
        assert!(parse(7, br#"{"schema": "\"string\""}"#).is_ok());
        assert!(parse(7, br#"{"schema": "\"string\"", "schemaType": "AVRO", "references": []}"#).is_ok());

        for (answer, reason) in [
            (r#"{"schema": "x", "schemaType": "PROTOBUF"}"#, "schema 7 is PROTOBUF"),
            (r#"{"schema": "x", "references": [{"name": "n"}]}"#, "schema 7 refers to other schemas"),
            (r#"{"schema": "\"text\""}"#, "schema 7 is not an Avro schema"),
            ("{}", "missing field `schema`"),
        ] {
            let error = parse(7, answer.as_bytes()).err().unwrap().to_string();
            assert!(error.contains(reason), "{answer}: {error}");
        }
    }

    #[tokio::test]
    async fn a_registry_that_does_not_answer_is_an_error_at_the_start() {
        let url = format!("http://127.0.0.1:{}", postern_testing::free_port().unwrap());
        let error = Registry::open(&url, None).await.err().unwrap().to_string();
        assert!(error.contains(&url) && error.contains("refused"), "{error}");
    }
}
