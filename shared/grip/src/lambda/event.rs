//! Reading an HTTP event of AWS Lambda into a request.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::{COOKIE, HeaderMap, HeaderValue};
use http::{Method, Request, Uri};
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::fields::{Pairs, Text, is_present};
use super::reply::Reply;

/// An HTTP request in the form in which Lambda receives it, borrowed from the event's text.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event<'a> {
    #[serde(borrow)]
    version: Option<Text<'a>>,
    #[serde(borrow)]
    http_method: Option<Text<'a>>,
    #[serde(borrow)]
    path: Option<Text<'a>>,
    #[serde(borrow)]
    raw_path: Option<Text<'a>>,
    #[serde(borrow)]
    raw_query_string: Option<Text<'a>>,
    #[serde(borrow, default)]
    query_string_parameters: Pairs<'a>,
    #[serde(borrow, default)]
    multi_value_query_string_parameters: Pairs<'a>,
    #[serde(borrow, default)]
    headers: Pairs<'a>,
    /// `None` and empty differ: a load balancer sends this member, even if empty, when its target group uses
    /// multi-value headers.
    #[serde(borrow)]
    multi_value_headers: Option<Pairs<'a>>,
    #[serde(borrow)]
    cookies: Option<Vec<Text<'a>>>,
    #[serde(borrow)]
    request_context: Option<Context<'a>>,
    #[serde(borrow)]
    body: Option<Text<'a>>,
    is_base64_encoded: Option<bool>,
}

#[derive(Deserialize)]
struct Context<'a> {
    #[serde(borrow)]
    stage: Option<Text<'a>>,
    #[serde(borrow)]
    http: Option<Http<'a>>,
    #[serde(default, deserialize_with = "is_present")]
    elb: bool,
}

#[derive(Deserialize)]
struct Http<'a> {
    #[serde(borrow)]
    method: Option<Text<'a>>,
}

/// Why an event is not an HTTP request. The error does not contain any of the event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEvent {
    /// The event is not JSON, or a member has another type than Lambda sends.
    #[error(
        "the event is not JSON, or a member has an unexpected type, at line {line}, column {column}; an HTTP event of \
         API Gateway, a function URL or a load balancer is expected"
    )]
    Json {
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
    },
    /// The event has neither `httpMethod` nor `requestContext.http.method`, or the method is not valid.
    #[error(
        "the event is not an HTTP request: it has no valid method in httpMethod or requestContext.http.method"
    )]
    NotHttp,
    /// `isBase64Encoded` is true, but the body is not base64.
    #[error("the event's body is not base64, although isBase64Encoded is true")]
    Base64,
    /// The path and the query do not form a URI.
    #[error("the event's path and query do not form a URI")]
    Path,
}

/// The characters to encode in a path. All others, `%` included, are kept as the client sent them.
const PATH: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>').add(b'?').add(b'`').add(b'{').add(b'}');

/// The characters to encode in a query.
const QUERY: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>').add(b'`').add(b'{').add(b'}');

impl<'a> Event<'a> {
    /// Reads the JSON text of an event. The kind of event is recognised from its members.
    pub fn parse(json: &'a str) -> Result<Self, InvalidEvent> {
        serde_json::from_str(json)
            .map_err(|error| InvalidEvent::Json { line: error.line(), column: error.column() })
    }

    /// The request, and the form that its response must have.
    pub fn into_request(self) -> Result<(Request<Vec<u8>>, Reply), InvalidEvent> {
        let reply = self.reply();
        let method = match reply {
            Reply::Http => {
                self.request_context.as_ref().and_then(|context| context.http.as_ref()?.method.as_ref())
            }
            Reply::Rest | Reply::Alb { .. } => self.http_method.as_ref(),
        };
        let method = method.ok_or(InvalidEvent::NotHttp)?;
        let method = Method::from_bytes(method.0.as_bytes()).map_err(|_| InvalidEvent::NotHttp)?;
        let uri: Uri = self.target(reply).parse().map_err(|_| InvalidEvent::Path)?;

        let mut request = Request::new(Vec::new());
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = self.all_headers();
        *request.body_mut() = match self.body {
            Some(Text(body)) if self.is_base64_encoded == Some(true) => {
                BASE64.decode(body.as_bytes()).map_err(|_| InvalidEvent::Base64)?
            }
            Some(Text(body)) => body.into_owned().into_bytes(),
            None => Vec::new(),
        };
        Ok((request, reply))
    }

    /// Recognises the kind of event.
    fn reply(&self) -> Reply {
        let context = self.request_context.as_ref();
        match &self.version {
            Some(Text(version)) if version == "2.0" => Reply::Http,
            _ if context.is_some_and(|context| context.elb) => {
                Reply::Alb { multi_value: self.multi_value_headers.is_some() }
            }
            // Events written by hand for tests often lack the version.
            None if self.http_method.is_none() && context.is_some_and(|context| context.http.is_some()) => {
                Reply::Http
            }
            _ => Reply::Rest,
        }
    }

    fn all_headers(&self) -> HeaderMap {
        let mut headers = match &self.multi_value_headers {
            Some(multi) if !multi.0.is_empty() => multi.headers(),
            _ => self.headers.headers(),
        };

        let cookies: Vec<&str> = self.cookies.iter().flatten().map(|Text(cookie)| &**cookie).collect();
        if let (false, Ok(cookies)) = (cookies.is_empty(), HeaderValue::try_from(cookies.join("; "))) {
            let _ = headers.try_insert(COOKIE, cookies);
        }
        headers
    }

    /// The path and the query, encoded.
    fn target(&self, reply: Reply) -> String {
        let path = self.raw_path.as_ref().or(self.path.as_ref()).map_or("/", |Text(path)| &**path);
        let stage = self.request_context.as_ref().and_then(|context| context.stage.as_ref());
        let path = match (reply, stage) {
            // An HTTP API passes on the name of its stage as the first segment of the path.
            (Reply::Http, Some(Text(stage))) if stage != "$default" => path
                .strip_prefix('/')
                .and_then(|path| path.strip_prefix(&**stage))
                .filter(|path| path.is_empty() || path.starts_with('/'))
                .unwrap_or(path),
            _ => path,
        };

        let mut target = String::with_capacity(path.len() + 16);
        if !path.starts_with('/') {
            target.push('/');
        }
        target.extend(utf8_percent_encode(path, PATH));

        let query = self.query(reply);
        if !query.is_empty() {
            target.push('?');
            target.extend(utf8_percent_encode(&query, QUERY));
        }
        target
    }

    fn query(&self, reply: Reply) -> Cow<'_, str> {
        if let Some(Text(query)) = &self.raw_query_string {
            return Cow::Borrowed(query);
        }

        let pairs = match &self.multi_value_query_string_parameters.0 {
            pairs if pairs.is_empty() => &self.query_string_parameters.0,
            pairs => pairs,
        };
        // A load balancer passes parameters on as they were sent. API Gateway has decoded them.
        let write = |part: &str| match reply {
            Reply::Alb { .. } => part.to_owned(),
            _ => utf8_percent_encode(part, NON_ALPHANUMERIC).to_string(),
        };
        let pairs = pairs.iter().map(|(name, value)| format!("{}={}", write(name), write(value)));
        Cow::Owned(pairs.collect::<Vec<_>>().join("&"))
    }
}

#[cfg(test)]
mod tests;
