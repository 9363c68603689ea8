//! A private CA for the tests of TLS.

use std::path::PathBuf;

use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// The CA, and a folder with its certificate in `ca.pem`.
pub(in crate::handlers) struct Authority {
    folder: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(in crate::handlers) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();

        let authority = Self { folder: tempfile::tempdir().unwrap(), issuer };
        authority.write("ca.pem", &authority.certificate().pem());
        authority
    }

    pub(in crate::handlers) fn certificate(&self) -> &Certificate {
        self.issuer.as_ref()
    }

    /// Makes a key and its certificate for a name.
    pub(in crate::handlers) fn issue(&self, name: &str) -> (Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// Writes a file beside `ca.pem`.
    pub(in crate::handlers) fn write(&self, name: &str, content: &str) {
        std::fs::write(self.path(name), content).unwrap();
    }

    pub(in crate::handlers) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}
