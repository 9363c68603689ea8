//! A function URL: converts an HTTP request to an event, and the function's response to an HTTP response.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::{CONTENT_TYPE, COOKIE, HeaderMap, HeaderName, HeaderValue, SET_COOKIE};
use http::{Request, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The event of a request, in payload format 2.0.
pub(crate) fn event(request: &Request<Vec<u8>>) -> Value {
    let mut headers = Map::new();
    for name in request.headers().keys().filter(|name| **name != COOKIE) {
        let values = request.headers().get_all(name).iter();
        let values: Vec<_> = values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        headers.insert(name.to_string(), values.join(",").into());
    }

    let path = request.uri().path();
    let mut event = json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": request.uri().query().unwrap_or_default(),
        "headers": headers,
        "requestContext": {
            "accountId": "anonymous", "apiId": "local", "domainName": "local.lambda-url.local.on.aws",
            "domainPrefix": "local",
            "http": {"method": request.method().as_str(), "path": path, "protocol": "HTTP/1.1",
                "sourceIp": "127.0.0.1", "userAgent": "local"},
            "requestId": "local", "routeKey": "$default", "stage": "$default",
            "time": "01/Jan/1970:00:00:00 +0000", "timeEpoch": 0,
        },
        "isBase64Encoded": false,
    });

    let cookies = request.headers().get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let cookies: Vec<_> = cookies.flat_map(|cookies| cookies.split("; ")).collect();
    if !cookies.is_empty() {
        event["cookies"] = json!(cookies);
    }

    if !request.body().is_empty() {
        match std::str::from_utf8(request.body()) {
            Ok(text) if is_text(request.headers()) => event["body"] = json!(text),
            _ => {
                event["body"] = json!(BASE64.encode(request.body()));
                event["isBase64Encoded"] = json!(true);
            }
        }
    }
    event
}

/// Whether a function URL passes the body on as text, which it does for `text/*`, JSON, XML and JavaScript.
fn is_text(headers: &HeaderMap) -> bool {
    let kind =
        headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("application/octet-stream");
    ["text/", "application/json", "application/xml", "application/javascript"]
        .iter()
        .any(|text| kind.starts_with(text))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    status_code: u16,
    #[serde(default)]
    headers: HashMap<String, String>,
    #[serde(default)]
    cookies: Vec<String>,
    body: Option<String>,
    #[serde(default)]
    is_base64_encoded: bool,
}

/// The HTTP response that the JSON of a function's response describes, or `None` if the JSON is not valid.
pub(crate) fn response(json: &[u8]) -> Option<Response<Vec<u8>>> {
    let answer: Answer = serde_json::from_slice(json).ok()?;
    let body = answer.body.unwrap_or_default();
    let body = if answer.is_base64_encoded { BASE64.decode(body).ok()? } else { body.into_bytes() };

    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(answer.status_code).ok()?;
    for (name, value) in answer.headers {
        response.headers_mut().insert(HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?);
    }
    for cookie in answer.cookies {
        response.headers_mut().append(SET_COOKIE, HeaderValue::try_from(cookie).ok()?);
    }
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(kind: Option<&str>, body: &[u8]) -> Request<Vec<u8>> {
        let request = Request::post("/a/b?c=d").header("x-one", "1").header("x-one", "2");
        let request = request.header("cookie", "a=b; c=d").header("cookie", "e=f");
        let request = kind.into_iter().fold(request, |request, kind| request.header("content-type", kind));
        request.body(body.to_vec()).unwrap()
    }

    #[test]
    fn a_request_becomes_an_event() {
        let text = event(&request(Some("text/plain; charset=utf-8"), "é".as_bytes()));
        assert_eq!((&text["body"], &text["isBase64Encoded"]), (&json!("é"), &json!(false)));
        assert_eq!((&text["rawPath"], &text["rawQueryString"]), (&json!("/a/b"), &json!("c=d")));
        assert_eq!(text["requestContext"]["http"]["method"], "POST");
        assert_eq!(text["headers"]["x-one"], "1,2");
        assert_eq!(text["cookies"], json!(["a=b", "c=d", "e=f"]));
        assert_eq!(text["headers"].get("cookie"), None);
    }

    #[test]
    fn a_body_that_is_not_text_becomes_base64_in_the_event() {
        for (kind, body) in [(None, &b"plain"[..]), (Some("text/plain"), b"\xff"), (Some("image/png"), b"x")]
        {
            let event = event(&request(kind, body));
            assert_eq!(event["isBase64Encoded"], true, "{kind:?}");
            assert_eq!(event["body"], BASE64.encode(body));
        }

        let empty = event(&request(None, b""));
        assert_eq!((empty.get("body"), &empty["isBase64Encoded"]), (None, &json!(false)));
    }

    #[test]
    fn an_answer_becomes_a_response() {
        let answer = json!({"statusCode": 201, "headers": {"x-a": "b"}, "cookies": ["a=b", "c=d"],
            "body": "/w==", "isBase64Encoded": true});
        let response = response(answer.to_string().as_bytes()).unwrap();
        assert_eq!((response.status(), response.body().as_slice()), (StatusCode::CREATED, &b"\xff"[..]));
        assert_eq!(response.headers()["x-a"], "b");
        assert_eq!(response.headers().get_all(SET_COOKIE).iter().count(), 2);
        let text = super::response(br#"{"statusCode":200,"body":"\u00e9"}"#).unwrap();
        assert_eq!(text.body(), "é".as_bytes());
        for bad in ["", "[]", "{}", r#"{"statusCode":200,"body":"_","isBase64Encoded":true}"#] {
            assert!(super::response(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
