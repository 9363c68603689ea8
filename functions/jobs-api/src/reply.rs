//! Responses: JSON, entity tags, and the headers that every response has.

use std::fmt::Write as _;

use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue,
    IF_NONE_MATCH, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{Method, Request, Response, StatusCode};
use ring::digest::{SHA256, digest};
use serde::Serialize;

use crate::assets::Asset;

/// The policy of all responses but the page: they load nothing, and no other page embeds them.
const NOTHING: &str = "default-src 'none'; frame-ancestors 'none'";

/// A response with JSON.
pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Response<Vec<u8>> {
    // The types of the API have texts as keys, so that writing them does not fail.
    let body = serde_json::to_vec(body).unwrap_or_default();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A response with a file. `policy` is the content security policy of the page.
pub(crate) fn asset(asset: &Asset, policy: &str) -> Response<Vec<u8>> {
    let mut response = Response::new(asset.content.as_bytes().to_vec());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(asset.kind));
    if asset.path == "/"
        && let Ok(policy) = HeaderValue::try_from(policy)
    {
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// The content security policy of the page, which may connect to `origins` besides its own.
pub(crate) fn policy(origins: &[String]) -> String {
    let connect = [&["'self'".to_owned()], origins].concat().join(" ");
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src {connect}; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

/// Adds the headers that every response has, and answers 304 if the caller has this content already.
pub(crate) fn finish(request: &Request<Vec<u8>>, mut response: Response<Vec<u8>>) -> Response<Vec<u8>> {
    let is_content = request.method() == Method::GET && response.status() == StatusCode::OK;
    if is_content {
        let tag = entity_tag(response.body());
        if has(request.headers(), &tag) {
            response.body_mut().clear();
            response.headers_mut().remove(CONTENT_TYPE);
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        if let Ok(tag) = HeaderValue::try_from(tag) {
            response.headers_mut().insert(ETAG, tag);
        }
    }

    let cache = if is_content { "private, no-cache" } else { "no-store" };
    let headers = [
        (CACHE_CONTROL, cache),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (REFERRER_POLICY, "no-referrer"),
        (STRICT_TRANSPORT_SECURITY, "max-age=31536000"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
    ];

    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }

    response.headers_mut().entry(CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(NOTHING));
    response
}

/// A weak tag: API Gateway may compress the same content in different ways.
fn entity_tag(content: &[u8]) -> String {
    let mut tag = "W/\"".to_owned();
    for byte in &digest(&SHA256, content).as_ref()[..12] {
        // Writing to a String does not fail.
        let _ = write!(tag, "{byte:02x}");
    }
    tag + "\""
}

/// Whether the caller's `If-None-Match` has the tag. The comparison is the weak one of RFC 9110, section 8.8.3.2.
fn has(headers: &HeaderMap, tag: &str) -> bool {
    let strong = tag.trim_start_matches("W/");
    let values = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .any(|one| matches!(one.trim(), "*") || one.trim().trim_start_matches("W/") == strong)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn get(tag: Option<&str>) -> Response<Vec<u8>> {
        let request =
            tag.into_iter().fold(Request::get("/"), |request, tag| request.header(IF_NONE_MATCH, tag));
        finish(&request.body(Vec::new()).unwrap(), json(StatusCode::OK, &json!({"a": 1})))
    }

    #[test]
    fn content_that_the_caller_has_is_not_sent_again() {
        let first = get(None);
        let tag = first.headers()[ETAG].to_str().unwrap();
        assert!(tag.starts_with("W/\"") && first.status() == StatusCode::OK);

        for tag in [tag, &tag[2..], &format!("\"other\", {tag}"), "*"] {
            let again = get(Some(tag));
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{tag}");
            assert!(again.body().is_empty() && again.headers()[ETAG] == first.headers()[ETAG]);
        }
        assert_eq!(get(Some("W/\"other\"")).status(), StatusCode::OK);
    }

    #[test]
    fn a_problem_has_no_tag_and_is_not_stored() {
        let request = Request::get("/").body(Vec::new()).unwrap();
        let response = finish(&request, json(StatusCode::NOT_FOUND, &json!({})));
        assert!(!response.headers().contains_key(ETAG));
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
        assert_eq!(response.headers()[X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(response.headers()[CONTENT_SECURITY_POLICY], NOTHING);
    }

    #[test]
    fn the_page_may_run_only_its_own_scripts() {
        let policy = policy(&["https://issuer.example".into()]);
        assert!(policy.contains("script-src 'self';") && !policy.contains("unsafe"), "{policy}");
        assert!(policy.contains("connect-src 'self' https://issuer.example;"), "{policy}");
    }
}
