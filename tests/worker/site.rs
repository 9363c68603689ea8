//! A folder with a certificate authority and certificates, and the worker's command line for it.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use postern_local::{Process, Project};
use postern_test_disk::Disk;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::time::{Instant, sleep};

/// The limit of every wait: far longer than any wait takes, also on a busy machine.
pub(crate) const TIMEOUT: Duration = Duration::from_mins(1);

/// Certificates for a broker at `localhost` and its clients, and a port for the broker.
pub(crate) struct Site {
    pub(crate) folder: PathBuf,
    pub(crate) port: u16,
    project: Project,
}

impl Site {
    /// A new folder with the authority `ca` and the certificates `localhost`, `worker-1` and `cloud`.
    pub(crate) fn new(name: &str) -> Self {
        let project = Project::here().unwrap();
        let folder = Self::folder(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();

        let site = Self { folder, port, project };
        site.authority("ca");
        for name in ["localhost", "worker-1", "cloud"] {
            site.certificate("ca", name, |_| {});
        }
        site
    }

    /// The folder of the site of this name.
    pub(crate) fn folder(name: &str) -> PathBuf {
        Project::here().unwrap().file(".postern/tests").join(format!("worker-{name}"))
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// Creates a certificate authority and writes it to `NAME.pem` and `NAME.key`.
    pub(crate) fn authority(&self, name: &str) {
        let key = KeyPair::generate().unwrap();
        let certificate = authority_params(name).self_signed(&key).unwrap();

        fs::write(self.path(&format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    /// Creates a certificate signed by `authority` and writes it to `NAME.pem` and `NAME.key`.
    pub(crate) fn certificate(
        &self,
        authority: &str,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer(authority)).unwrap();

        fs::write(self.path(&format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    /// The authority as an issuer, which signs certificates.
    pub(crate) fn issuer(&self, authority: &str) -> Issuer<'static, KeyPair> {
        let key = fs::read_to_string(self.path(&format!("{authority}.key"))).unwrap();
        Issuer::new(authority_params(authority), KeyPair::from_pem(&key).unwrap())
    }

    /// The worker's options for this site's broker, with the certificate `NAME.pem` and the authority `CA.pem`.
    pub(crate) fn arguments(&self, certificate: &str, ca: &str) -> Vec<String> {
        let path = |file: String| self.path(&file).display().to_string();
        let endpoint = format!("localhost:{}", self.port);
        let (cert, key) = (path(format!("{certificate}.pem")), path(format!("{certificate}.key")));
        let ca = path(format!("{ca}.pem"));

        let options =
            ["--endpoint", &endpoint, "--client-id", "worker-1", "--cert", &cert, "--key", &key, "--ca", &ca];
        options.map(str::to_owned).to_vec()
    }

    /// Starts the worker `worker-1` with `more` options.
    pub(crate) fn worker(&self, log: &str, more: &[&str]) -> Process {
        let mut command = self.command(env!("CARGO_BIN_EXE_test-worker"));
        command.args(self.arguments("worker-1", "ca")).args(more);
        Process::start("the worker", &mut command, &self.path(log)).unwrap()
    }

    /// Starts the worker `worker-1` with additional environment variables.
    pub(crate) fn worker_with(&self, log: &str, variables: &[(&str, &str)]) -> Process {
        let mut command = self.command(env!("CARGO_BIN_EXE_test-worker"));
        command.args(self.arguments("worker-1", "ca")).envs(variables.iter().copied());
        Process::start("the worker", &mut command, &self.path(log)).unwrap()
    }

    /// Starts a worker with a configuration file.
    pub(crate) fn worker_from_file(&self, log: &str, config: &str) -> Process {
        let mut command = self.command(env!("CARGO_BIN_EXE_test-worker"));
        command.arg("--config").arg(self.path(config));
        Process::start("the worker", &mut command, &self.path(log)).unwrap()
    }

    /// A port that nothing listens on.
    pub(crate) fn unused_port(&self) -> u16 {
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        assert_ne!(port, self.port);
        port
    }

    /// Runs `postern-worker` to its end.
    pub(crate) fn postern_worker(&self, arguments: &[String]) -> Output {
        let program = self.project.program("postern-worker");
        self.command(program).args(arguments).output().unwrap()
    }

    /// A command whose environment contains no options and no proxies of the tests' own environment.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("POSTERN_") || text.to_ascii_uppercase().ends_with("_PROXY") {
                command.env_remove(name);
            }
        }
        command
            .current_dir(&self.folder)
            .env("POSTERN_STATE_DIR", self.path("state"))
            .env(postern_test_disk::FOLDER, self.disk().folder());
        command
    }

    /// The disk under the journals of this site's workers.
    pub(crate) fn disk(&self) -> Disk {
        Disk::new(self.path("disk"))
    }

    /// The broker's configuration of mutual TLS.
    pub(crate) fn server_tls(&self) -> rustls::ServerConfig {
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
            Arc::new(self.roots("ca")),
            Arc::new(rustls::crypto::ring::default_provider()),
        );
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![self.pem("localhost")], self.key("localhost"))
            .unwrap()
    }

    pub(crate) fn roots(&self, name: &str) -> rustls::RootCertStore {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.pem(name)).unwrap();
        roots
    }

    pub(crate) fn pem(&self, name: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.path(&format!("{name}.pem"))).unwrap()
    }

    pub(crate) fn key(&self, name: &str) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_file(self.path(&format!("{name}.key"))).unwrap()
    }
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// The log of a process so far.
pub(crate) fn logs(process: &Process) -> String {
    process.logs()
}

/// Waits until a process has logged `text`.
pub(crate) async fn logged(process: &Process, text: &str) {
    logged_times(process, text, 1).await;
}

/// Waits until a process has logged `text` at least `count` times.
pub(crate) async fn logged_times(process: &Process, text: &str, count: usize) {
    let end = Instant::now() + TIMEOUT;
    while logs(process).matches(text).count() < count {
        assert!(Instant::now() < end, "{text:?} occurs fewer than {count} times in:\n{}", logs(process));
        sleep(Duration::from_millis(20)).await;
    }
}
