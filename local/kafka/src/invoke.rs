//! The Lambda Invoke API, as a caller.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;

use crate::mapping::{Function, Outcome};

/// A function behind an endpoint: Lambda's, the local stack's, or a test's.
#[derive(Debug, Clone)]
pub struct Lambda {
    http: Client<HttpConnector, Full<Bytes>>,
    uri: Uri,
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
    /// The function of this name at this endpoint (`http://host:port`).
    pub fn new(endpoint: &str, function: &str) -> Result<Self, hyper::http::uri::InvalidUri> {
        let uri = format!("{}/2015-03-31/functions/{function}/invocations", endpoint.trim_end_matches('/'))
            .parse()?;
        Ok(Self { http: Client::builder(TokioExecutor::new()).build_http(), uri })
    }

    async fn send(&self, event: Vec<u8>) -> Result<Outcome, Box<dyn std::error::Error + Send + Sync>> {
        let request = Request::post(&self.uri).header("content-type", "application/json");
        let response = self.http.request(request.body(Full::from(event))?).await?;
        let status = response.status();
        let function_error = response.headers().contains_key("x-amz-function-error");
        let body = response.into_body().collect().await?.to_bytes();
        Ok(outcome(status.as_u16(), function_error, &body))
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
        200..300 if body.is_empty() || body == b"null" => Outcome::Done,
        200..300 => match serde_json::from_slice::<Answer>(body) {
            Ok(answer) if answer.batch_item_failures.is_empty() => Outcome::Done,
            Ok(Answer { batch_item_failures }) => {
                let items = batch_item_failures.into_iter().map(|failure| failure.item_identifier);
                Outcome::Partial(items.map(|item| (item.partition, item.offset)).collect())
            }
            // As Lambda: an answer that is none fails the batch.
            Err(_) => Outcome::Failed("InvalidResponse".to_owned()),
        },
        // cargo lambda answers so where Lambda has status 200 and a header.
        500 if error.is_ok() => Outcome::Failed(error.unwrap_or_default()),
        status => Outcome::Unreachable(format!("HTTP {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_has_its_meaning() {
        let partial = br#"{"batchItemFailures":[{"itemIdentifier":{"partition":"t-0","offset":5}}]}"#;
        let error = br#"{"errorType":"MskToS3.Throttled","errorMessage":"x"}"#;
        assert_eq!(outcome(200, false, b""), Outcome::Done);
        assert_eq!(outcome(200, false, b"null"), Outcome::Done);
        assert_eq!(outcome(200, false, b"{}"), Outcome::Done);
        assert_eq!(outcome(200, false, br#"{"batchItemFailures":[]}"#), Outcome::Done);
        assert_eq!(outcome(200, false, partial), Outcome::Partial(vec![("t-0".into(), 5)]));
        assert_eq!(outcome(200, false, b"\"ok\""), Outcome::Failed("InvalidResponse".into()));
        assert_eq!(outcome(200, true, error), Outcome::Failed("MskToS3.Throttled".into()));
        assert_eq!(outcome(500, false, error), Outcome::Failed("MskToS3.Throttled".into()));
        assert_eq!(outcome(500, false, b"down"), Outcome::Unreachable("HTTP 500".into()));
        assert_eq!(outcome(429, false, b""), Outcome::Unreachable("HTTP 429".into()));
    }
}
