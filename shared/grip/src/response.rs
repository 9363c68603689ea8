//! HTTP responses that several parts of the crate build: a plain text, and a response written as JSON inside a
//! publication or a hold instruction.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use serde_json::{Value, json};

/// A response header's value is not UTF-8, so that the response cannot be written as JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the value of the response header {0} is not UTF-8; a response in JSON can only carry text in its headers"
)]
pub struct HeaderNotUtf8(pub HeaderName);

/// A response of type `text/plain`.
pub(crate) fn plain(status: StatusCode, text: &str) -> Response<Vec<u8>> {
    let mut response = Response::new(text.as_bytes().to_vec());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

/// A response in the JSON form that the proxy reads. A body that is UTF-8 is written as text, any other in base64.
pub(crate) fn json(response: &Response<Vec<u8>>, status: StatusCode) -> Result<Value, HeaderNotUtf8> {
    let mut json = json!({
        "code": status.as_u16(),
        "reason": status.canonical_reason().unwrap_or_default(),
        "headers": header_pairs(response.headers())?,
    });

    match std::str::from_utf8(response.body()) {
        Ok(text) => json["body"] = json!(text),
        Err(_) => json["body-bin"] = json!(BASE64.encode(response.body())),
    }
    Ok(json)
}

/// Headers as pairs of name and value, because a name may occur several times.
fn header_pairs(headers: &HeaderMap) -> Result<Vec<(&str, &str)>, HeaderNotUtf8> {
    let pairs = headers.iter().map(|(name, value)| match std::str::from_utf8(value.as_bytes()) {
        Ok(value) => Ok((name.as_str(), value)),
        Err(_) => Err(HeaderNotUtf8(name.clone())),
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_in_json_has_every_header_and_a_body_that_survives() {
        let response =
            Response::builder().header("x-a", "1").header("x-a", "Zoë").body(b"\xff".to_vec()).unwrap();
        assert_eq!(
            json(&response, StatusCode::IM_A_TEAPOT).unwrap(),
            json!({"code": 418, "reason": "I'm a teapot", "headers": [["x-a", "1"], ["x-a", "Zoë"]], "body-bin": "/w=="})
        );
    }

    #[test]
    fn a_header_that_is_not_utf8_is_named() {
        let value = HeaderValue::from_bytes(b"\xff").unwrap();
        let response = Response::builder().header("x-odd", value).body(Vec::new()).unwrap();
        let error = json(&response, StatusCode::OK).unwrap_err();
        assert_eq!(error, HeaderNotUtf8(HeaderName::from_static("x-odd")));
    }
}
