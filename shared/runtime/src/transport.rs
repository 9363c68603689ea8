//! The HTTP client of the modules that call AWS without an SDK: one pool of connections, TLS by ring.

use std::error::Error;
use std::fmt::Display;
use std::sync::{Arc, LazyLock, OnceLock};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::ResponseFuture;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};

type Pool = hyper_util::client::legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// The system's CA certificates. Reading them is a large part of a cold start, so that all clients share them.
static ROOTS: LazyLock<Arc<RootCertStore>> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    Arc::new(roots)
});

/// A client for requests whose body is in memory. A clone shares the pool.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    tls: bool,
    // Made by the first request: many invocations of a function need one of its clients only.
    pool: Arc<OnceLock<Pool>>,
}

impl Client {
    pub(crate) fn request(&self, request: Request<Full<Bytes>>) -> ResponseFuture {
        self.pool.get_or_init(|| pool(self.tls)).request(request)
    }
}

/// Makes a client. Without `tls` it reads no CA certificates and can call `http` addresses only.
pub(crate) fn client(tls: bool) -> Client {
    Client { tls, pool: Arc::default() }
}

fn pool(tls: bool) -> Pool {
    let roots = if tls { Arc::clone(&ROOTS) } else { Arc::new(RootCertStore::empty()) };
    let tls = ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_protocol_versions(rustls::ALL_VERSIONS);
    let Ok(tls) = tls else { unreachable!("ring supports every protocol version of rustls") };
    let tls = tls.with_root_certificates(roots).with_no_client_auth();

    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
    hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .build(connector.wrap_connector(tcp))
}

/// The last error of a chain: the one that names DNS, a refused connection or TLS.
pub(crate) fn innermost(error: &dyn Error) -> String {
    let mut error: &dyn Error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// The domain of AWS's services in a Region. The Regions of China have a domain of their own.
pub(crate) fn domain(region: &impl Display) -> &'static str {
    if region.to_string().starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" }
}
