use std::fs;

use clap::Parser as _;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use super::*;
use crate::config::{CommandLine, Config};

/// A folder with `cert.pem`, its `key.pem`, and `other.pem`, the key of another certificate.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, params: &CertificateParams) -> Self {
        let folder = std::env::temp_dir().join(format!("postern-tls-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        fs::write(folder.join("cert.pem"), cert.pem()).unwrap();
        fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
        fs::write(folder.join("other.pem"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
        fs::write(folder.join("empty.pem"), "").unwrap();
        Self(folder)
    }

    fn path(&self, file: &str) -> String {
        self.0.join(file).to_str().unwrap().to_owned()
    }

    fn config(&self, cert: &str, key: &str) -> Result<Arc<ClientConfig>, TlsError> {
        let (cert, key, ca) = (self.path(cert), self.path(key), self.path("cert.pem"));
        let line = ["w", "--endpoint", "h", "--client-id", "w", "--cert", &cert, "--key", &key, "--ca", &ca];
        client_config(&Config::load(&CommandLine::try_parse_from(line).unwrap()).unwrap())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn params() -> CertificateParams {
    CertificateParams::new(vec!["w".into()]).unwrap()
}

#[test]
fn a_certificate_and_its_key() {
    let folder = Folder::new("good", &params());
    assert!(folder.config("cert.pem", "key.pem").is_ok());
    assert!(valid_until(&folder.0.join("cert.pem")).is_ok());
}

#[test]
fn a_key_of_another_certificate_is_noticed() {
    let folder = Folder::new("mismatch", &params());
    let error = folder.config("cert.pem", "other.pem").unwrap_err();
    assert!(matches!(error, TlsError::Mismatch { .. }), "{error}");
}

#[test]
fn a_file_that_is_not_what_it_should_be_is_named() {
    let folder = Folder::new("files", &params());
    for (cert, key, words) in [
        ("none.pem", "key.pem", "cannot read the certificate"),
        ("empty.pem", "key.pem", "there is no PEM certificate in it"),
        ("cert.pem", "cert.pem", "there is no PEM key in it"),
    ] {
        let error = folder.config(cert, key).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn an_expired_certificate_says_until_when_it_was_valid() {
    let mut params = params();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2021, 1, 1);
    let folder = Folder::new("expired", &params);
    let error = valid_until(&folder.0.join("cert.pem")).unwrap_err().to_string();

    assert!(error.contains("valid from 2020-01-01T00:00:00Z to 2021-01-01T00:00:00Z"), "{error}");
}
