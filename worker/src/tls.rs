use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::config::Config;

/// Why the worker's certificate, its key or the CA cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Not there, or not to be read.
    #[error("cannot read the {what} {path}: {reason}")]
    Read {
        /// Which file.
        what: &'static str,
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The key is another certificate's.
    #[error("the key {key} does not belong to the certificate {cert}")]
    Mismatch {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// Too early or too late for the certificate.
    #[error("the certificate {path} is valid from {from} to {to}; this host's clock says {now}")]
    NotValidNow {
        /// The certificate.
        path: PathBuf,
        /// Its first second.
        from: Timestamp,
        /// Its last.
        to: Timestamp,
        /// What the clock says.
        now: Timestamp,
    },
    /// No `--ca`, and the system has none.
    #[error("this system has no CA certificates of its own; give Amazon Root CA 1 with --ca")]
    NoRoots,
    /// Anything else that rustls does not take.
    #[error("the certificate cannot be used: {0}")]
    Rustls(#[from] rustls::Error),
}

/// The worker's side of mutual TLS.
pub(crate) fn client_config(settings: &Config) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    match &settings.ca {
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
    let key = PrivateKeyDer::from_pem_file(&settings.key)
        .map_err(|error| unreadable("key", &settings.key, &error))?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates("certificate", &settings.cert)?, key)
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                TlsError::Mismatch { cert: settings.cert.clone(), key: settings.key.clone() }
            }
            other => other.into(),
        })?;
    if settings.endpoint.port == 443 {
        // On 443, AWS IoT Core tells MQTT from HTTPS by ALPN ("Device communication protocols").
        config.alpn_protocols = vec![b"x-amzn-mqtt-ca".to_vec()];
    }
    Ok(Arc::new(config))
}

/// The worker's certificate: until when it is valid. An error where it is not valid now.
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

/// At least one certificate.
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
