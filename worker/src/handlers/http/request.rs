//! The request of a job: the parts that its input gives, put where they cannot become anything else.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use hyper::{HeaderMap, Method, Request, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use postern_types::TaskFailure;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::handler::JobContext;
use crate::handlers::input::{Argument, invalid};

/// What is encoded in a segment of a path: all but the unreserved characters and those that separate nothing.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'@')
    .remove(b':')
    .remove(b',');
/// What is encoded in a name or a value of a query: all but the unreserved characters.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Headers that say how a message is framed or where it goes: the client sets them.
const RESERVED: [&str; 12] = [
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];
/// The header that carries the job's idempotency key to a service that remembers keys.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The scheme, the host and the path that every request has.
#[derive(Debug, Clone)]
pub(super) struct Base {
    scheme: Scheme,
    authority: Authority,
    /// It ends with a slash.
    path: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    method: Option<String>,
    #[serde(default)]
    path: String,
    #[serde(default)]
    query: BTreeMap<String, Box<RawValue>>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<Box<RawValue>>,
}

impl Base {
    /// Parses `https://HOST/PATH/`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        const WANT: &str = "base_url: it must be a URL such as https://erp.plant.local/api/, without user, query and \
             fragment";

        let uri: Uri = text.parse().map_err(|error| format!("{WANT} ({error})"))?;
        let parts = uri.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            return Err(WANT.into());
        };
        let path = parts.path_and_query.as_ref().map_or("/", PathAndQuery::path);
        let query = parts.path_and_query.as_ref().and_then(PathAndQuery::query);
        let web = scheme == Scheme::HTTPS || scheme == Scheme::HTTP;
        if !web || authority.as_str().contains('@') || query.is_some() || text.contains('#') {
            return Err(WANT.into());
        }

        let path = if path.ends_with('/') { path.to_owned() } else { format!("{path}/") };
        Ok(Self { scheme, authority, path })
    }

    /// The URL itself.
    pub(super) fn root(&self) -> Uri {
        self.uri(&self.path).unwrap_or_default()
    }

    fn uri(&self, path: &str) -> Result<Uri, hyper::http::Error> {
        Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(path)
            .build()
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.path)
    }
}

/// The request of a job. `configured` are the headers of the section.
pub(super) fn build(
    job: &JobContext,
    base: &Base,
    methods: &[Method],
    configured: HeaderMap,
) -> Result<Request<Full<Bytes>>, TaskFailure> {
    let input: Input = job.input()?;
    let method = method(input.method.as_deref(), methods)?;
    let target = format!("{}{}{}", base.path, path(&input.path)?, query(&input.query)?);
    let uri = base.uri(&target).map_err(|error| invalid(format!("path: {error}")))?;

    let mut headers = headers(&input.headers, &configured)?;
    let body = input.body.map(|body| body_text(&body, &mut headers)).transpose()?.unwrap_or_default();
    headers.extend(configured);
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if !matches!(method, Method::GET | Method::HEAD) {
        let key = HeaderValue::try_from(job.idempotency_key());
        let key =
            key.map_err(|_| invalid("the job's idempotency key has a character that HTTP does not allow"))?;
        headers.insert(IDEMPOTENCY_KEY, key);
    }

    let mut request = Request::new(Full::from(body));
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(request)
}

/// The given method, or the section's first one.
fn method(given: Option<&str>, methods: &[Method]) -> Result<Method, TaskFailure> {
    let found = match given {
        None => methods.first(),
        Some(given) => methods.iter().find(|method| method.as_str() == given),
    };
    found.cloned().ok_or_else(|| {
        invalid(format!(
            "method: {:?} must be one of {methods:?}, as the section says",
            given.unwrap_or_default()
        ))
    })
}

/// The path below the base, encoded. `%` is a character like any other, so that `%2e%2e` stays harmless.
fn path(given: &str) -> Result<String, TaskFailure> {
    let segments: Vec<_> = given.split('/').collect();
    let inner = &segments[..segments.len() - 1];
    if inner.contains(&"") {
        return Err(invalid(format!("path: {given:?} must not begin with a slash or have two in a row")));
    }
    if segments.iter().any(|segment| matches!(*segment, "." | "..")) || given.contains('\\') {
        return Err(invalid(format!("path: {given:?} must not contain \".\", \"..\" or a backslash")));
    }
    if given.contains(char::is_control) {
        return Err(invalid(format!("path: {given:?} must not contain control characters")));
    }

    let encoded = segments.iter().map(|segment| utf8_percent_encode(segment, SEGMENT).to_string());
    Ok(encoded.collect::<Vec<_>>().join("/"))
}

/// `?name=value&…`, or nothing. An array gives its name several times, `null` does not appear.
fn query(members: &BTreeMap<String, Box<RawValue>>) -> Result<String, TaskFailure> {
    let mut query = String::new();
    for (name, value) in members {
        let wrong = || {
            invalid(format!(
                "query: {name:?} must be a text, a number, true, false, null or an array of these"
            ))
        };
        let values = match Argument::parse(value).map_err(|_| wrong())? {
            Argument::Json(array) => {
                serde_json::from_str::<Vec<Box<RawValue>>>(&array).map_err(|_| wrong())?
            }
            _ => vec![value.clone()],
        };
        for value in values {
            let text = match Argument::parse(&value).map_err(|_| wrong())? {
                Argument::Text(text) | Argument::Number(text) => text,
                Argument::Bool(value) => value.to_string(),
                Argument::Null => continue,
                Argument::Json(_) => return Err(wrong()),
            };
            query.push(if query.is_empty() { '?' } else { '&' });
            query.extend(utf8_percent_encode(name, QUERY));
            query.push('=');
            query.extend(utf8_percent_encode(&text, QUERY));
        }
    }
    Ok(query)
}

/// The headers of the input. Those of the section, and those that frame the message, are not the job's to set.
fn headers(given: &BTreeMap<String, String>, configured: &HeaderMap) -> Result<HeaderMap, TaskFailure> {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        let parsed = HeaderName::try_from(name).map_err(|_| {
            invalid(format!("headers: the name {name:?} has a character that HTTP does not allow"))
        })?;
        let value = HeaderValue::try_from(value).map_err(|_| {
            invalid(format!("headers: the value of {name:?} has a character that HTTP does not allow"))
        })?;
        let reserved = RESERVED.contains(&parsed.as_str()) || parsed.as_str().starts_with("proxy-");
        if reserved || parsed == IDEMPOTENCY_KEY || configured.contains_key(&parsed) {
            return Err(invalid(format!("headers: {name:?} cannot be set by a job")));
        }
        if headers.insert(parsed, value).is_some() {
            return Err(invalid(format!("headers: {name:?} is given twice")));
        }
    }
    Ok(headers)
}

/// The body: JSON, or the text itself if the job gives a Content-Type other than JSON.
fn body_text(body: &RawValue, headers: &mut HeaderMap) -> Result<Bytes, TaskFailure> {
    let json = HeaderValue::from_static("application/json");
    let is_json = headers.entry(CONTENT_TYPE).or_insert(json).to_str().is_ok_and(is_json);
    if is_json {
        return Ok(Bytes::from(body.get().to_owned()));
    }
    serde_json::from_str::<String>(body.get())
        .map(Bytes::from)
        .map_err(|_| invalid("body: it must be a text, because the Content-Type is not JSON"))
}

/// Whether a Content-Type is JSON.
pub(super) fn is_json(content_type: &str) -> bool {
    let media = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media == "application/json" || media.ends_with("+json")
}
