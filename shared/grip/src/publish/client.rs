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

/// Largest publication that Pushpin takes, in bytes. Fanout takes 64 kB.
pub const PUBLISH_BYTES: usize = 1_000_000;

/// How long a token for the control endpoint is valid.
const TOKEN_LIFE: Duration = Duration::from_mins(10);

/// Why a publication did not get out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The address cannot be called, or a secret cannot stand in a header.
    #[error("the control endpoint's address or authentication cannot be used")]
    Configuration,
    /// The body is larger than a proxy takes.
    #[error("the publication has {0} bytes; a proxy takes at most {PUBLISH_BYTES}")]
    TooLarge(usize),
    /// No connection, or one that broke.
    #[error("the control endpoint cannot be reached")]
    Unreachable,
    /// No answer in time.
    #[error("the control endpoint did not answer in time")]
    TimedOut,
    /// An answer other than 2xx; with what the endpoint says about it.
    #[error("the control endpoint refused the publication with HTTP {status}: {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The first line of its answer, at most 200 characters.
        message: String,
    },
}

/// Publishes to a proxy's control endpoint. Made once; connections are kept and shared by clones.
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
    /// A client of the proxy at `url`. For `https` this reads the system's root certificates.
    pub fn new(url: &GripUrl) -> Result<Self, PublishError> {
        let (path, query) = match url.control().split_once('?') {
            Some((path, query)) => (path, format!("?{query}")),
            None => (url.control(), String::new()),
        };
        let endpoint: Uri =
            format!("{path}/publish/{query}").parse().map_err(|_| PublishError::Configuration)?;
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

    /// Puts `prefix` before every channel's name.
    #[must_use]
    pub fn prefixed(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Gives up after so long; 5 seconds if not said.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Publishes items, all in one request. That nobody listens is no error.
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
        let answer = async {
            let response = self.client.request(request).await.map_err(|_| PublishError::Unreachable)?;
            let status = response.status();
            let text = Limited::new(response.into_body(), 4_096).collect().await;
            let text = text.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            if status.is_success() {
                return Ok(());
            }
            let text = String::from_utf8_lossy(&text);
            let message = text.lines().next().unwrap_or_default().chars().take(200).collect();
            Err(PublishError::Refused { status: status.as_u16(), message })
        };
        tokio::time::timeout(self.timeout, answer).await.unwrap_or(Err(PublishError::TimedOut))
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

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
