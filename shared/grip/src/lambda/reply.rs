//! Writing a response in the form that the caller of the function expects.

use aws_lambda_events::alb::AlbTargetGroupResponse;
use aws_lambda_events::apigw::{ApiGatewayProxyResponse, ApiGatewayV2httpResponse};
use aws_lambda_events::encodings::Body;
use http::header::{HeaderMap, HeaderValue, SET_COOKIE};
use http::{Response, StatusCode};
use serde::Serialize;

/// The form that a response must have, which depends on the service that made the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// An API Gateway REST API, or an HTTP API with payload format 1.0.
    Rest,
    /// An HTTP API with payload format 2.0, or a function URL.
    Http,
    /// An application load balancer.
    Alb {
        /// Whether the target group uses multi-value headers. The load balancer then ignores single-value headers.
        multi_value: bool,
    },
}

/// A response in the form that Lambda returns to the service that made the event.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum LambdaResponse {
    /// For a REST API.
    Rest(ApiGatewayProxyResponse),
    /// For an HTTP API or a function URL.
    Http(ApiGatewayV2httpResponse),
    /// For a load balancer.
    Alb(AlbTargetGroupResponse),
}

impl Reply {
    /// Writes `response` in this form. A body that is UTF-8 is written as text, any other in base64.
    pub fn response(self, response: Response<Vec<u8>>) -> LambdaResponse {
        let (parts, body) = response.into_parts();
        let status_code = i64::from(parts.status.as_u16());
        let headers = writable(parts.headers);
        let (body, is_base64_encoded) = match String::from_utf8(body) {
            Ok(text) => (Some(Body::Text(text)), false),
            Err(bytes) => (Some(Body::Binary(bytes.into_bytes())), true),
        };

        match self {
            Self::Rest => {
                let mut answer = ApiGatewayProxyResponse::default();
                answer.status_code = status_code;
                answer.multi_value_headers = headers;
                (answer.body, answer.is_base64_encoded) = (body, is_base64_encoded);
                LambdaResponse::Rest(answer)
            }
            Self::Http => {
                let mut answer = ApiGatewayV2httpResponse::default();
                answer.status_code = status_code;
                answer.cookies = cookies(&headers);
                answer.headers = joined(&headers);
                (answer.body, answer.is_base64_encoded) = (body, is_base64_encoded);
                LambdaResponse::Http(answer)
            }
            Self::Alb { multi_value } => {
                let mut answer = AlbTargetGroupResponse::default();
                answer.status_code = status_code;
                answer.status_description = Some(description(parts.status));
                if multi_value {
                    answer.multi_value_headers = headers;
                } else {
                    answer.headers = joined_with_cookie(&headers);
                }
                (answer.body, answer.is_base64_encoded) = (body, is_base64_encoded);
                LambdaResponse::Alb(answer)
            }
        }
    }
}

/// The status line that a load balancer requires, such as `200 OK`.
fn description(status: StatusCode) -> String {
    format!("{} {}", status.as_u16(), status.canonical_reason().unwrap_or("Unknown"))
}

/// The headers without those whose values are not UTF-8, which JSON cannot carry.
fn writable(mut headers: HeaderMap) -> HeaderMap {
    if headers.values().all(|value| std::str::from_utf8(value.as_bytes()).is_ok()) {
        return headers;
    }

    let mut kept = HeaderMap::with_capacity(headers.len());
    let mut name = None;
    // `drain` yields a name only with the first of its values.
    for (next, value) in headers.drain() {
        name = next.or(name);
        if let (Some(name), Ok(_)) = (&name, std::str::from_utf8(value.as_bytes())) {
            kept.append(name, value);
        }
    }
    kept
}

fn cookies(headers: &HeaderMap) -> Vec<String> {
    let cookies = headers.get_all(SET_COOKIE).iter();
    cookies.filter_map(|cookie| cookie.to_str().ok()).map(str::to_owned).collect()
}

/// The headers with one value for each name, without cookies. A repeated header means the same as a list with commas.
fn joined(headers: &HeaderMap) -> HeaderMap {
    let mut joined = HeaderMap::with_capacity(headers.keys_len());

    for name in headers.keys().filter(|name| **name != SET_COOKIE) {
        let values: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
        if let Ok(value) = HeaderValue::from_bytes(&values.join(&b", "[..])) {
            joined.insert(name, value);
        }
    }
    joined
}

/// Like [`joined`], with the last cookie: a target group without multi-value headers can pass on only one.
fn joined_with_cookie(headers: &HeaderMap) -> HeaderMap {
    let mut joined = joined(headers);
    if let Some(cookie) = headers.get_all(SET_COOKIE).iter().next_back() {
        joined.insert(SET_COOKIE, cookie.clone());
    }
    joined
}
