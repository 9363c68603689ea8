//! A client of the Lambda Invoke API.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;

use crate::mapping::{Function, Outcome};

/// A function behind an endpoint: AWS Lambda, the emulator or a test.
#[derive(Debug, Clone)]
pub struct Lambda {
    http: Client<HttpConnector, Full<Bytes>>,
    uri: Uri,
    caller: Option<Caller>,
}

/// The identity that signs invocations.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The credentials.
    pub credentials: Credentials,
    /// The Region of the function.
    pub region: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    #[serde(default)]
    batch_item_failures: Vec<Failure>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Failure {
    item_identifier: Item,
}

#[derive(Deserialize)]
struct Item {
    partition: String,
    offset: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FunctionError {
    error_type: String,
}

impl Lambda {
    /// The function `function` at this endpoint (`http://host:port`). Without a caller requests are not signed, which is
    /// enough for an emulator that does not check signatures.
    pub fn new(
        endpoint: &str,
        function: &str,
        caller: Option<Caller>,
    ) -> Result<Self, hyper::http::uri::InvalidUri> {
        let endpoint = endpoint.trim_end_matches('/');
        Self::at(&format!("{endpoint}/2015-03-31/functions/{function}/invocations"), caller)
    }

    /// The function that is invoked by a POST to this URL.
    pub fn at(url: &str, caller: Option<Caller>) -> Result<Self, hyper::http::uri::InvalidUri> {
        Ok(Self { http: Client::builder(TokioExecutor::new()).build_http(), uri: url.parse()?, caller })
    }

    async fn send(&self, event: Vec<u8>) -> Result<Outcome, Box<dyn std::error::Error + Send + Sync>> {
        let mut request =
            Request::post(&self.uri).header("content-type", "application/json").body(Full::default())?;
        if let Some(caller) = &self.caller {
            caller.sign(&mut request, &event)?;
        }
        *request.body_mut() = Full::from(event);

        let response = self.http.request(request).await?;
        let status = response.status();
        let function_error = response.headers().contains_key("x-amz-function-error");
        let body = response.into_body().collect().await?.to_bytes();
        Ok(outcome(status.as_u16(), function_error, &body))
    }
}

impl Caller {
    /// Signs the request with Signature Version 4.
    fn sign<B>(
        &self,
        request: &mut Request<B>,
        body: &[u8],
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let identity = self.credentials.clone().into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("lambda")
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()?
            .into();

        let uri = request.uri().to_string();
        let headers = request.headers().iter();
        let headers = headers.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));

        let signable = SignableRequest::new("POST", uri, headers, SignableBody::Bytes(body))?;
        let (instructions, _) = sign(signable, &parameters)?.into_parts();
        instructions.apply_to_request_http1x(request);
        Ok(())
    }
}

impl Function for Lambda {
    async fn invoke(&mut self, event: Vec<u8>) -> Outcome {
        self.send(event).await.unwrap_or_else(|error| Outcome::Unreachable(error.to_string()))
    }
}

fn outcome(status: u16, function_error: bool, body: &[u8]) -> Outcome {
    let error = serde_json::from_slice::<FunctionError>(body).map(|error| error.error_type);
    match status {
        200..300 if function_error => Outcome::Failed(error.unwrap_or_else(|_| "Unhandled".to_owned())),
        200..300 if body.is_empty() || body == b"null" => Outcome::Processed,
        200..300 => match serde_json::from_slice::<Answer>(body) {
            Ok(answer) if answer.batch_item_failures.is_empty() => Outcome::Processed,
            Ok(Answer { batch_item_failures }) => {
                let items = batch_item_failures.into_iter().map(|failure| failure.item_identifier);
                Outcome::Partial(items.map(|item| (item.partition, item.offset)).collect())
            }
            // Like Lambda: an answer that is not a batch response fails the batch.
            Err(_) => Outcome::Failed("InvalidResponse".to_owned()),
        },
        // `cargo lambda` answers a function error with status 500, where Lambda has status 200 and a header.
        500 if error.is_ok() => Outcome::Failed(error.unwrap_or_default()),
        status => Outcome::Unreachable(format!("HTTP {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_of_lambda_has_an_outcome() {
        let partial = br#"{"batchItemFailures":[{"itemIdentifier":{"partition":"t-0","offset":5}}]}"#;
        let error = br#"{"errorType":"MskToS3.Throttled","errorMessage":"x"}"#;
        assert_eq!(outcome(200, false, b""), Outcome::Processed);
        assert_eq!(outcome(200, false, b"null"), Outcome::Processed);
        assert_eq!(outcome(200, false, b"{}"), Outcome::Processed);
        assert_eq!(outcome(200, false, br#"{"batchItemFailures":[]}"#), Outcome::Processed);
        assert_eq!(outcome(200, false, partial), Outcome::Partial(vec![("t-0".into(), 5)]));
        assert_eq!(outcome(200, false, b"\"ok\""), Outcome::Failed("InvalidResponse".into()));
        assert_eq!(outcome(200, true, error), Outcome::Failed("MskToS3.Throttled".into()));
        assert_eq!(outcome(500, false, error), Outcome::Failed("MskToS3.Throttled".into()));
        assert_eq!(outcome(500, false, b"down"), Outcome::Unreachable("HTTP 500".into()));
        assert_eq!(outcome(429, false, b""), Outcome::Unreachable("HTTP 429".into()));
    }
}
