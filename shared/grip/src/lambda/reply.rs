use aws_lambda_events::alb::AlbTargetGroupResponse;
use aws_lambda_events::apigw::{ApiGatewayProxyResponse, ApiGatewayV2httpResponse};
use aws_lambda_events::encodings::Body;
use http::header::{HeaderMap, HeaderValue, SET_COOKIE};
use http::{Response, StatusCode};
use serde::Serialize;

/// How an answer has to look for whoever asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// An API Gateway REST API, or an HTTP API with payload format 1.0.
    Rest,
    /// An HTTP API with payload format 2.0, or a function URL.
    Http,
    /// An application load balancer.
    Alb {
        /// Whether its target group has multi-value headers on: it then takes no others.
        multi_value: bool,
    },
}

/// An answer, as Lambda passes it on.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum LambdaResponse {
    /// To a REST API.
    Rest(ApiGatewayProxyResponse),
    /// To an HTTP API or a function URL.
    Http(ApiGatewayV2httpResponse),
    /// To a load balancer.
    Alb(AlbTargetGroupResponse),
}

impl Reply {
    /// The answer that holds `response`.
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

/// `200 OK`.
fn description(status: StatusCode) -> String {
    format!("{} {}", status.as_u16(), status.canonical_reason().unwrap_or("Unknown"))
}

/// Without what the types cannot write: JSON holds text, and a header need not be UTF-8.
fn writable(mut headers: HeaderMap) -> HeaderMap {
    if headers.values().all(|value| std::str::from_utf8(value.as_bytes()).is_ok()) {
        return headers;
    }
    let mut kept = HeaderMap::with_capacity(headers.len());
    let mut name = None;
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

/// One value a name, without cookies: repeated headers mean the same as a list.
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

/// With the last cookie: that is all a single-value target group can pass on.
fn joined_with_cookie(headers: &HeaderMap) -> HeaderMap {
    let mut joined = joined(headers);
    if let Some(cookie) = headers.get_all(SET_COOKIE).iter().next_back() {
        joined.insert(SET_COOKIE, cookie.clone());
    }
    joined
}
