//! The client of a proxy's control endpoint.

use std::error::Error;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Request, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};

use super::item::{Item, body};
use crate::grip_url::{Auth, GripUrl};
use crate::signature::token;

/// The largest publication that Pushpin accepts, in bytes. Fanout accepts 64 kB.
pub const PUBLISH_BYTES: usize = 1_000_000;

/// The lifetime of a token for the control endpoint.
const TOKEN_LIFE: Duration = Duration::from_mins(10);

/// The number of bytes that are read of the body of a refusal.
const REFUSAL_BYTES: usize = 4_096;

/// Why a publication failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The address cannot be called, or a secret cannot stand in a header.
    #[error("the address or the authentication in GRIP_URL cannot be used for publishing")]
    Configuration,
    /// The publication is larger than [`PUBLISH_BYTES`]. The field holds its size in bytes.
    #[error("the publication has {0} bytes; the proxy accepts at most {PUBLISH_BYTES}")]
    TooLarge(usize),
    /// The connection failed or broke. The field holds the cause: name resolution, a refused connection, TLS.
    #[error("the control endpoint cannot be reached: {0}")]
    Unreachable(String),
    /// The control endpoint did not answer within the timeout.
    #[error("the control endpoint did not answer within {0:?}")]
    TimedOut(Duration),
    /// The control endpoint answered with a status other than 2xx.
    #[error("the control endpoint refused the publication with HTTP {status}: {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The first line of the response, at most 200 characters.
        message: String,
    },
}

/// Publishes items through a proxy's control endpoint.
///
/// Make one and keep it: it reuses its connections, and clones share them.
///
/// ```no_run
/// use grip::{GripUrl, HttpStream, Item, Publisher, WsMessage};
///
/// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
/// let publisher = Publisher::new(&GripUrl::parse("http://127.0.0.1:5561/")?)?;
/// let item = Item::new("echo").websocket(WsMessage::text("hi")).stream(HttpStream::text("hi\n"));
/// publisher.publish(&[item]).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Publisher {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    endpoint: Uri,
    auth: Auth,
    prefix: String,
    timeout: Duration,
}

impl Publisher {
    /// A client of the control endpoint of `url`. For `https`, this reads the system's root certificates.
    pub fn new(url: &GripUrl) -> Result<Self, PublishError> {
        let endpoint = endpoint(url.control())?;
        let mut roots = RootCertStore::empty();
        if endpoint.scheme_str() == Some("https") {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }

        let tls = ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .map_err(|_| PublishError::Configuration)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);

        Ok(Self {
            client: Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector),
            endpoint,
            auth: url.auth().clone(),
            prefix: String::new(),
            timeout: Duration::from_secs(5),
        })
    }

    /// Puts `prefix` before the name of every channel.
    #[must_use]
    pub fn prefixed(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Limits the time of one publication. The default is 5 seconds.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Publishes items in one request. It succeeds even if a channel has no listeners.
    pub async fn publish(&self, items: &[Item]) -> Result<(), PublishError> {
        let body = body(items, &self.prefix);
        if body.len() > PUBLISH_BYTES {
            return Err(PublishError::TooLarge(body.len()));
        }

        let mut request = Request::post(self.endpoint.clone())
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|_| PublishError::Configuration)?;
        if let Some(authorization) = self.authorization()? {
            request.headers_mut().insert(AUTHORIZATION, authorization);
        }

        let sent = tokio::time::timeout(self.timeout, self.send(request)).await;
        sent.unwrap_or(Err(PublishError::TimedOut(self.timeout)))
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<(), PublishError> {
        let response = self.client.request(request).await;
        let response = response.map_err(|error| PublishError::Unreachable(innermost(&error)))?;

        // The body is read even on success, so that the connection can be used again.
        let status = response.status();
        let text = Limited::new(response.into_body(), REFUSAL_BYTES).collect().await;
        let text = text.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        if status.is_success() {
            return Ok(());
        }

        let text = String::from_utf8_lossy(&text);
        let message = text.lines().next().unwrap_or_default().chars().take(200).collect();
        Err(PublishError::Refused { status: status.as_u16(), message })
    }

    fn authorization(&self) -> Result<Option<HeaderValue>, PublishError> {
        let text = match &self.auth {
            Auth::None => return Ok(None),
            Auth::Bearer(token) => format!("Bearer {token}"),
            Auth::Jwt { issuer, key } => {
                let token = token(key, Some(issuer), TOKEN_LIFE, SystemTime::now());
                format!("Bearer {}", token.ok_or(PublishError::Configuration)?)
            }
            Auth::Basic { user, password } => {
                format!("Basic {}", BASE64.encode(format!("{user}:{password}")))
            }
        };

        let mut value = HeaderValue::try_from(text).map_err(|_| PublishError::Configuration)?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

/// The address to publish to, which is below the control address. The address's own query is kept.
fn endpoint(control: &str) -> Result<Uri, PublishError> {
    let endpoint = match control.split_once('?') {
        Some((path, query)) => format!("{path}/publish/?{query}"),
        None => format!("{control}/publish/"),
    };
    endpoint.parse().map_err(|_| PublishError::Configuration)
}

/// The text of the innermost cause of an error. The outer ones say only that the client failed.
fn innermost(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests;
