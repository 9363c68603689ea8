//! A private CA, and a service that asks for a certificate.

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;

use super::*;
use crate::handlers::tests::authority::Authority;

/// A CA, and a server and a client that it knows.
struct Pki {
    authority: Authority,
    acceptor: TlsAcceptor,
}

impl Pki {
    fn new() -> Self {
        let authority = Authority::new();
        let (client, client_key) = authority.issue("plant-7");
        authority.write("client.pem", &client.pem());
        authority.write("client.key", &client_key.serialize_pem());

        let (server, server_key) = authority.issue("localhost");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from(authority.certificate().der().to_vec())).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .unwrap();
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![CertificateDer::from(server.der().to_vec())],
                PrivateKeyDer::try_from(server_key.serialize_der()).unwrap(),
            )
            .unwrap();
        Self { authority, acceptor: TlsAcceptor::from(Arc::new(tls)) }
    }

    #[expect(clippy::unnecessary_wraps, reason = "the type of the configuration's members")]
    fn path(&self, name: &str) -> Option<std::path::PathBuf> {
        Some(self.authority.path(name))
    }
}

#[tokio::test]
async fn a_private_ca_and_a_client_certificate_are_used() {
    let pki = Pki::new();
    let service = Service::start(OK, Some(pki.acceptor.clone())).await;
    let url = format!("https://localhost:{}/", service.port);

    let known = config::Http {
        ca: pki.path("ca.pem"),
        client_cert: pki.path("client.pem"),
        client_key: pki.path("client.key"),
        ..section(&url)
    };
    assert_eq!(run(&Http::new(known.clone()).unwrap(), json!({})).await.unwrap()["status"], 200);
    assert!(Http::new(known.clone()).unwrap().check().await.unwrap().contains("200"));

    let other = Pki::new();
    let untrusted = config::Http { ca: other.path("ca.pem"), ..known.clone() };
    let failure = run(&Http::new(untrusted).unwrap(), json!({})).await.unwrap_err();
    assert_eq!(failure.error(), "Http.Tls");
    assert!(failure.cause().contains("invalid peer certificate"), "{}", failure.cause());

    let another_name = config::Http { base_url: url.replace("localhost", "127.0.0.1"), ..known.clone() };
    assert_eq!(run(&Http::new(another_name).unwrap(), json!({})).await.unwrap_err().error(), "Http.Tls");

    let anonymous = config::Http { client_cert: None, client_key: None, ..known.clone() };
    assert!(run(&Http::new(anonymous).unwrap(), json!({})).await.is_err());
    assert!(Http::new(config::Http { client_key: None, ..known }).is_err());
}
