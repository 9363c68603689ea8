//! Problem details (RFC 9457): every answer of the API that is not a success.

use http::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use postern_runtime::aws::Failure;
use serde_json::json;

/// The page that explains the problems. A problem's `type` is an anchor on it.
const PAGE: &str = "https://github.com/postern-dev/postern/blob/main/docs/errors.md";

/// A request that the API does not fulfil. The text becomes the `detail`, and contains no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    #[error("{0}")]
    InvalidRequest(String),
    #[error("the cursor is not one of this list: take `next` of the page before, with the same filters")]
    InvalidCursor,
    #[error("the request has no identity that API Gateway has verified: sign in")]
    Unauthorized,
    #[error("{0}")]
    Forbidden(String),
    #[error("{0}")]
    NotFound(&'static str),
    #[error("this path allows {0} only")]
    MethodNotAllowed(&'static str),
    #[error("{0}")]
    Conflict(String),
    #[error("{0}")]
    TooLarge(String),
    #[error("a request that changes something needs the header Content-Type: application/json")]
    UnsupportedMediaType,
    #[error("{service} throttled the request; repeat it after a second")]
    Throttled { service: &'static str },
    #[error("{service} did not answer; repeat the request")]
    Unavailable { service: &'static str },
    #[error(
        "{service} refused the request, which is a fault of this deployment; the function's log has the reason"
    )]
    Refused { service: &'static str },
}

impl Problem {
    /// The problem of a failed call of an AWS service. The reason goes to the log, because it can name resources.
    pub(crate) fn of_call(service: &'static str, (kind, reason): (Failure, String)) -> Self {
        tracing::error!(service, ?kind, reason, "a call failed");
        match kind {
            Failure::Throttled => Self::Throttled { service },
            Failure::Unavailable => Self::Unavailable { service },
            Failure::Denied | Failure::TooLarge | Failure::Refused => Self::Refused { service },
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::InvalidRequest(_) | Self::InvalidCursor => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Throttled { .. } | Self::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Refused { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The anchor on the page of errors, and the title.
    pub(crate) fn kind(&self) -> (&'static str, &'static str) {
        match self {
            Self::InvalidRequest(_) => ("invalid-request", "The request is invalid"),
            Self::InvalidCursor => ("invalid-cursor", "The cursor is invalid"),
            Self::Unauthorized => ("unauthorized", "Sign in"),
            Self::Forbidden(_) => ("forbidden", "Your roles do not allow this"),
            Self::NotFound(_) => ("not-found", "There is no such thing"),
            Self::MethodNotAllowed(_) => ("method-not-allowed", "The path does not have this method"),
            Self::Conflict(_) => ("conflict", "The state does not allow this"),
            Self::TooLarge(_) => ("too-large", "It is too large"),
            Self::UnsupportedMediaType => ("unsupported-media-type", "The body must be JSON"),
            Self::Throttled { .. } => ("throttled", "There are too many requests"),
            Self::Unavailable { .. } => ("unavailable", "An AWS service does not answer"),
            Self::Refused { .. } => ("refused", "The deployment is not right"),
        }
    }

    /// The response, without the headers that all responses have.
    pub(crate) fn response(&self) -> Response<Vec<u8>> {
        let (anchor, title) = self.kind();
        let status = self.status();
        let body = json!({
            "type": format!("{PAGE}#{anchor}"),
            "title": title,
            "status": status.as_u16(),
            "detail": self.to_string(),
        });

        let mut response = Response::new(body.to_string().into_bytes());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));

        match self {
            Self::MethodNotAllowed(methods) => drop(headers.insert(ALLOW, HeaderValue::from_static(methods))),
            Self::Throttled { .. } | Self::Unavailable { .. } => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }

        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_has_an_anchor_on_the_page_of_errors() {
        let page = include_str!("../../../docs/errors.md");
        let text = String::new;
        for problem in [
            Problem::InvalidRequest(text()),
            Problem::InvalidCursor,
            Problem::Unauthorized,
            Problem::Forbidden(text()),
            Problem::NotFound(""),
            Problem::MethodNotAllowed("GET"),
            Problem::Conflict(text()),
            Problem::TooLarge(text()),
            Problem::UnsupportedMediaType,
            Problem::Throttled { service: "" },
            Problem::Unavailable { service: "" },
            Problem::Refused { service: "" },
        ] {
            let anchor = problem.kind().0;
            assert!(page.contains(&format!("<a id=\"{anchor}\">")), "{anchor}");
        }
    }

    #[test]
    fn markup_in_a_detail_stays_text_in_json() {
        let response = Problem::InvalidRequest("<script>alert(\"1\")</script>".into()).response();
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(body["detail"], "<script>alert(\"1\")</script>");
    }
}
