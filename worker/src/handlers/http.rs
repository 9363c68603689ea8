//! Handlers of `type = "http"`: one request to one service.
//!
//! The scheme, the host and the beginning of the path come from the configuration, and the job's input cannot change
//! them. Redirects are not followed, and no proxy is used.

mod request;
mod response;

use std::error::Error as _;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, Request};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::TokioExecutor;
use postern_types::TaskFailure;
use serde_json::value::RawValue;

use super::limits::TimeLimit;
use crate::config::handlers as config;
use crate::handler::{Handler, JobContext, Policy};
use crate::tls;
use request::Base;

/// How long the service may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an unused connection stays open.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);

/// A handler of one service.
pub(crate) struct Http {
    config: config::Http,
    base: Base,
    methods: Vec<Method>,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Http {
    /// A handler of the section, or what is wrong with the section.
    pub(crate) fn new(config: config::Http) -> Result<Self, String> {
        let base = Base::parse(&config.base_url)?;
        let methods = methods(&config.methods)?;
        if let Some(status) = config.accept_status.iter().find(|status| !(300..600).contains(*status)) {
            return Err(format!(
                "accept_status: {status} is not within 300 to 599; statuses below are results"
            ));
        }
        let client = client(&config)?;

        let http = Self { config, base, methods, client };
        http.headers()?;
        Ok(http)
    }

    /// Whether the service answers, for `doctor`. HEAD changes nothing, and its status does not matter.
    pub(crate) async fn check(&self) -> Result<String, String> {
        let mut request = Request::new(Full::default());
        *request.method_mut() = Method::HEAD;
        *request.uri_mut() = self.base.root();
        *request.headers_mut() = self.headers()?;

        let response = tokio::time::timeout(CONNECT_TIMEOUT, self.client.request(request)).await;
        match response {
            Ok(Ok(response)) => Ok(format!("ok, {} answers HTTP {}", self.base, response.status())),
            Ok(Err(error)) => Err(format!("{}: {}", self.base, failure(&error).cause())),
            Err(_) => Err(format!("{} has not answered in time", self.base)),
        }
    }

    /// The configured headers, their secrets read anew.
    fn headers(&self) -> Result<HeaderMap, String> {
        let headers = self.config.headers.iter().map(|(name, value)| {
            let text = value.read().map_err(|error| format!("headers.{name}: {error}"))?;
            let mut value = HeaderValue::from_str(&text)
                .map_err(|_| format!("headers.{name}: the value has a character that HTTP does not allow"))?;
            value.set_sensitive(true);
            let name = HeaderName::try_from(name)
                .map_err(|_| format!("headers.{name}: the name has a character that HTTP does not allow"))?;
            Ok((name, value))
        });
        headers.collect()
    }

    async fn send(&self, job: &JobContext) -> Result<Box<RawValue>, TaskFailure> {
        let headers = self.headers().map_err(|problem| TaskFailure::new("Http.Configuration", problem))?;
        let request = request::build(job, &self.base, &self.methods, headers)?;
        let response = self.client.request(request).await.map_err(|error| failure(&error))?;
        response::result(response, &self.config.accept_status).await
    }
}

impl Handler for Http {
    type Output = Box<RawValue>;

    /// GET and HEAD change nothing.
    fn policy(&self) -> Policy {
        let reads = self.methods.iter().all(|method| matches!(*method, Method::GET | Method::HEAD));
        let default = if reads { Policy::Idempotent } else { Policy::Once };
        self.config.policy.map_or(default, Policy::from)
    }

    async fn run(&self, job: JobContext) -> Result<Box<RawValue>, TaskFailure> {
        let limit = TimeLimit::new(self.config.timeout_seconds, "Http.Timeout");
        // Dropping the request closes its connection.
        tokio::select! {
            result = self.send(&job) => result,
            failure = limit.reached(&job) => Err(failure),
        }
    }
}

fn methods(names: &[String]) -> Result<Vec<Method>, String> {
    const ALLOWED: [Method; 7] = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ];
    let find = |name: &String| ALLOWED.into_iter().find(|method| method.as_str() == name);
    let methods = names.iter().map(|name| find(name).ok_or(name)).collect::<Result<Vec<_>, _>>();
    match methods {
        Ok(methods) if methods.is_empty() => Err("methods: name at least one, such as GET".into()),
        Ok(methods) => Ok(methods),
        Err(name) => Err(format!("methods: {name:?} must be one of {ALLOWED:?}")),
    }
}

fn client(config: &config::Http) -> Result<Client<HttpsConnector<HttpConnector>, Full<Bytes>>, String> {
    let identity = match (&config.client_cert, &config.client_key) {
        (Some(cert), Some(key)) => Some((Path::new(cert), Path::new(key))),
        (None, None) => None,
        _ => return Err("client_cert and client_key: give both, or neither".into()),
    };
    let tls = tls::service_config(config.ca.as_deref(), identity).map_err(|error| error.to_string())?;

    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector);
    Ok(Client::builder(TokioExecutor::new()).pool_idle_timeout(IDLE_TIMEOUT).build(connector))
}

/// The failure of a request without a response. Its cause is the innermost one.
fn failure(error: &Error) -> TaskFailure {
    let mut causes = vec![error.to_string()];
    let (mut next, mut is_tls) = (error.source(), false);
    while let Some(cause) = next {
        is_tls |= is_tls_error(cause);
        causes.push(cause.to_string());
        next = cause.source();
    }

    let name = match () {
        () if is_tls => "Http.Tls",
        () if error.is_connect() => "Http.Unavailable",
        () => "Http.Broken",
    };
    causes.dedup();
    TaskFailure::new(name, causes.join(": "))
}

/// Whether an error is one of TLS. An `io::Error` may contain another one, which is not among its sources.
fn is_tls_error(error: &(dyn std::error::Error + 'static)) -> bool {
    let contained = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    error.is::<rustls::Error>() || contained.is_some_and(|inner| is_tls_error(inner))
}

#[cfg(test)]
mod tests;
