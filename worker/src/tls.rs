//! The worker's side of mutual TLS: certificates, keys, the CAs that it trusts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustls::client::WantsClientCert;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::config::Config;

/// Why the worker's certificate, its key or the CA cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is absent, unreadable or not PEM.
    #[error("cannot read the {what} {path}: {reason}")]
    Read {
        /// What the file should contain.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's or the parser's reason.
        reason: String,
    },
    /// The key belongs to another certificate.
    #[error("the key {key} does not belong to the certificate {cert}")]
    Mismatch {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// The certificate is not valid yet, or has expired.
    #[error("the certificate {path} is valid from {from} to {to}; this host's clock says {now}")]
    NotValidNow {
        /// The certificate.
        path: PathBuf,
        /// The first second of its validity.
        from: Timestamp,
        /// The last second of its validity.
        to: Timestamp,
        /// The host's time.
        now: Timestamp,
    },
    /// No CA is given, and the system has no CA certificates.
    #[error("this system has no CA certificates; name a file with `ca` (for AWS IoT Core: Amazon Root CA 1)")]
    NoRoots,
    /// rustls does not accept the certificate or the key for another reason.
    #[error("the certificate cannot be used: {0}")]
    Rustls(#[from] rustls::Error),
}

/// The worker's side of mutual TLS: the configured certificate and key, and the CAs that it trusts.
pub(crate) fn client_config(config: &Config) -> Result<Arc<ClientConfig>, TlsError> {
    let mut tls = pair(builder(config.ca.as_deref())?, &config.cert, &config.key)?;
    if config.endpoint.port == 443 {
        // On port 443, AWS IoT Core tells MQTT from HTTPS by this protocol name.
        tls.alpn_protocols = vec![b"x-amzn-mqtt-ca".to_vec()];
    }
    Ok(Arc::new(tls))
}

/// An error if the key does not belong to the certificate.
pub(crate) fn check_pair(cert: &Path, key: &Path) -> Result<(), TlsError> {
    pair(
        ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(RootCertStore::empty()),
        cert,
        key,
    )
    .map(|_| ())
}

/// TLS to the same endpoint for HTTPS, without a certificate of the worker's.
pub(crate) fn https_config(config: &Config) -> Result<ClientConfig, TlsError> {
    Ok(builder(config.ca.as_deref())?.with_no_client_auth())
}

/// TLS to a service of a handler, with a certificate and key of the worker's if the service wants them.
#[cfg(any(feature = "http", feature = "sql"))]
pub(crate) fn service_config(
    ca: Option<&Path>,
    identity: Option<(&Path, &Path)>,
) -> Result<ClientConfig, TlsError> {
    let builder = builder(ca)?;
    match identity {
        Some((cert, key)) => pair(builder, cert, key),
        None => Ok(builder.with_no_client_auth()),
    }
}

/// TLS to S3. Its certificate may be signed by one of the system's CAs, or by the one that signs the broker's.
pub(crate) fn transfer_config(ca: Option<&Path>) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for ca in ca.map(|path| certificates("CA certificate", path)).transpose()?.into_iter().flatten() {
        roots.add(ca)?;
    }
    Ok(trusting(roots)?.with_no_client_auth())
}

/// Adds a certificate and its key.
fn pair(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    cert: &Path,
    key: &Path,
) -> Result<ClientConfig, TlsError> {
    let chain = certificates("certificate", cert)?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable("key", key, &error))?;

    builder.with_client_auth_cert(chain, private).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => TlsError::Mismatch { cert: cert.into(), key: key.into() },
        other => other.into(),
    })
}

/// Trusts the configured CA, or the system's CAs.
fn builder(ca: Option<&Path>) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, TlsError> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            for ca in certificates("CA certificate", path)? {
                roots.add(ca)?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(TlsError::NoRoots);
    }

    trusting(roots)
}

fn trusting(roots: RootCertStore) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, TlsError> {
    Ok(ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The end of a certificate's validity. An error if the certificate is not valid now.
pub(crate) fn valid_until(path: &Path) -> Result<Timestamp, TlsError> {
    let chain = certificates("certificate", path)?;
    let (_, certificate) = X509Certificate::from_der(&chain[0]).map_err(|error| TlsError::Read {
        what: "certificate",
        path: path.into(),
        reason: error.to_string(),
    })?;
    let validity = certificate.validity();
    let at = |time: x509_parser::time::ASN1Time| {
        Timestamp::from_second(time.timestamp()).unwrap_or(Timestamp::MAX)
    };
    let (from, to, now) = (at(validity.not_before), at(validity.not_after), Timestamp::now());
    if (from..=to).contains(&now) {
        Ok(to)
    } else {
        Err(TlsError::NotValidNow { path: path.into(), from, to, now })
    }
}

/// The certificates of a PEM file: at least one.
fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| unreadable(what, path, &error))?;
    if chain.is_empty() {
        return Err(TlsError::Read {
            what,
            path: path.into(),
            reason: "there is no PEM certificate in it".into(),
        });
    }
    Ok(chain)
}

fn unreadable(what: &'static str, path: &Path, error: &rustls::pki_types::pem::Error) -> TlsError {
    use rustls::pki_types::pem::Error;
    let reason = match error {
        Error::Io(io) => io.to_string(),
        Error::NoItemsFound => format!("there is no PEM {what} in it"),
        other => format!("it is not PEM: {other}"),
    };
    TlsError::Read { what, path: path.into(), reason }
}

#[cfg(test)]
mod tests;
