//! The result of a job from the response of a service.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, LOCATION};
use hyper::{Response, StatusCode};
use postern_types::TaskFailure;
use postern_types::limits::cut;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::request::is_json;
use crate::handlers::limits::{RESULT_BYTES, too_large};

/// How much of the body of a refusal its cause contains, in characters.
const CAUSE_CHARS: usize = 2_000;

#[derive(Serialize)]
struct Output {
    status: u16,
    headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Box<RawValue>>,
    /// The body, if it is neither JSON nor UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

/// `{"status", "headers", "body"}`, or the failure that the status means.
pub(super) async fn result(
    response: Response<Incoming>,
    accepted: &[u16],
) -> Result<Box<RawValue>, TaskFailure> {
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, RESULT_BYTES).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            too_large("the body of the response")
        } else {
            TaskFailure::new("Http.Broken", format!("the response broke off: {error}"))
        }
    })?;
    let body = body.to_bytes();

    if parts.status.as_u16() >= 300 && !accepted.contains(&parts.status.as_u16()) {
        return Err(refusal(parts.status, &parts.headers, &body));
    }
    let (body, base64) = content(&parts.headers, &body);
    let output = Output { status: parts.status.as_u16(), headers: texts(&parts.headers), body, base64 };
    to_raw_value(&output).map_err(|error| TaskFailure::new("Worker.InvalidResult", error.to_string()))
}

fn refusal(status: StatusCode, headers: &HeaderMap, body: &Bytes) -> TaskFailure {
    if status.is_redirection() {
        let to = headers.get(LOCATION).map_or("nowhere".into(), |to| String::from_utf8_lossy(to.as_bytes()));
        let cause = format!("the service answered {status} to {to}; redirects are not followed");
        return TaskFailure::new("Http.Redirect", cause);
    }
    let body = String::from_utf8_lossy(body);
    TaskFailure::new("Http.Status", format!("the service answered {status}: {}", cut(&body, CAUSE_CHARS)))
}

/// The body as JSON, as text, or else in Base64.
fn content(headers: &HeaderMap, body: &Bytes) -> (Option<Box<RawValue>>, Option<String>) {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if body.is_empty() {
        return (Some(RawValue::NULL.to_owned()), None);
    }
    if is_json(content_type)
        && let Ok(json) = serde_json::from_slice(body)
    {
        return (Some(json), None);
    }

    match std::str::from_utf8(body).ok().and_then(|text| to_raw_value(text).ok()) {
        Some(text) => (Some(text), None),
        None => (None, Some(BASE64.encode(body))),
    }
}

/// The headers as texts. The values of a repeated header are joined by commas.
fn texts(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::<String, String>::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        texts
            .entry(name.to_string())
            .and_modify(|text| *text = format!("{text}, {value}"))
            .or_insert_with(|| value.into_owned());
    }
    texts
}
