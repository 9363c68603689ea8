//! `postern-worker enroll`: a key that is made on this machine and never leaves it, a certificate signing request, and
//! the installation of the certificate.
//!
//! Each identity is a directory of its own, and `current` is a symbolic link to the one in use:
//!
//! ```text
//! FOLDER/current -> identities/20261124T163846Z
//! FOLDER/identities/20261124T163846Z/{key.pem, request.csr, cert.pem}
//! ```
//!
//! The link is replaced by a rename, which a power cut leaves done or not done: certificate and key always belong
//! together. Each earlier step only adds files that nothing uses yet, and can be repeated. The module talks to no
//! network: the request travels by whatever way the operator has.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rcgen::{CertificateParams, DnType, KeyPair};

use crate::config::{EnrollOptions, RESERVED_CLIENT_ID};
use crate::tls::{self, TlsError};

/// Why a step of the enrolment failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnrollError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    /// The key or the request cannot be made, or a key file is damaged.
    #[error("the key or its request cannot be made: {0}")]
    Request(#[from] rcgen::Error),
    /// The certificate is invalid or belongs to another key.
    #[error("the certificate is not installed: {0}")]
    Certificate(#[from] TlsError),
    /// There is no request that a certificate could belong to.
    #[error(
        "{folder} has no request that waits for a certificate: run `postern-worker enroll` without --install first"
    )]
    NothingPending { folder: PathBuf },
    /// No worker can have this name.
    #[error(
        "no worker can be called {RESERVED_CLIENT_ID}, because the topic {{tenant}}/to/worker/{RESERVED_CLIENT_ID} is for \
         cancelled jobs: choose another name, such as plant-7"
    )]
    Reserved,
    /// The report cannot be printed.
    #[error("cannot print: {0}")]
    Print(io::Error),
}

/// The names inside the folder.
const IDENTITIES: &str = "identities";
const CURRENT: &str = "current";

/// Makes a request, or installs its certificate, and prints what to do next.
pub(crate) fn enroll(options: &EnrollOptions, out: &mut impl Write) -> Result<(), EnrollError> {
    if options.client_id == RESERVED_CLIENT_ID {
        return Err(EnrollError::Reserved);
    }

    let report = match &options.install {
        None => {
            let request = request(&options.folder, &options.client_id)?;
            format!(
                "the request: {request}\nThe key stays beside it. Have the request signed (`make enroll CSR={request}`, \
                 or `aws iot create-certificate-from-csr`), then:\n  postern-worker enroll --client-id {} --folder {} \
                 --install CERTIFICATE",
                options.client_id,
                options.folder.display(),
                request = request.display(),
            )
        }
        Some(certificate) => {
            let current = install(&options.folder, certificate)?.display().to_string();
            format!(
                "installed; a running worker takes it up within seconds. Its options:\n  --cert {current}/cert.pem --key \
                 {current}/key.pem"
            )
        }
    };
    writeln!(out, "{report}").map_err(EnrollError::Print)
}

/// Makes the key and the request, unless a request waits already. Returns the request's path.
fn request(folder: &Path, client_id: &str) -> Result<PathBuf, EnrollError> {
    let identity = match pending(folder)? {
        Some(identity) => identity,
        None => new_identity(folder)?,
    };

    let key_file = identity.join("key.pem");
    let key = if key_file.exists() {
        KeyPair::from_pem(&fs::read_to_string(&key_file).map_err(at(&key_file))?)?
    } else {
        let key = KeyPair::generate()?;
        write(&key_file, key.serialize_pem().as_bytes())?;
        key
    };

    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, client_id);
    let request = identity.join("request.csr");
    write(&request, params.serialize_request(&key)?.pem()?.as_bytes())?;
    Ok(request)
}

/// Installs the certificate of the pending request. Returns the path of the current identity.
fn install(folder: &Path, certificate: &Path) -> Result<PathBuf, EnrollError> {
    let identity = pending(folder)?.ok_or_else(|| EnrollError::NothingPending { folder: folder.into() })?;
    tls::valid_until(certificate)?;
    tls::check_pair(certificate, &identity.join("key.pem"))?;

    let chain = fs::read(certificate).map_err(at(certificate))?;
    write(&identity.join("cert.pem"), &chain)?;

    let name = Path::new(IDENTITIES).join(identity.file_name().unwrap_or_default());
    let (current, new) = (folder.join(CURRENT), folder.join(".current.new"));
    let _ = fs::remove_file(&new);
    symlink(&name, &new).map_err(at(&new))?;
    fs::rename(&new, &current).map_err(at(&current))?;
    sync_directory(folder)?;
    Ok(current)
}

/// The newest identity, if it is not the current one: its certificate has not come yet, or was not put to use before
/// the power went.
fn pending(folder: &Path) -> Result<Option<PathBuf>, EnrollError> {
    let identities = folder.join(IDENTITIES);
    let entries = match fs::read_dir(&identities) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at(&identities)(error)),
    };
    let newest = entries.filter_map(Result::ok).map(|entry| entry.file_name()).max();

    let current = fs::read_link(folder.join(CURRENT)).ok();
    let current = current.as_deref().and_then(Path::file_name);
    Ok(newest.filter(|name| Some(name.as_os_str()) != current).map(|name| identities.join(name)))
}

/// Makes a directory that only this user can enter. Its name sorts by time.
fn new_identity(folder: &Path) -> Result<PathBuf, EnrollError> {
    let name = Timestamp::now().strftime("%Y%m%dT%H%M%S%.3fZ").to_string();
    let identity = folder.join(IDENTITIES).join(name);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&identity).map_err(at(&identity))?;
    sync_directory(&folder.join(IDENTITIES))?;
    sync_directory(folder)?;
    Ok(identity)
}

/// Writes a file that only this user can read: it is whole or not there, whenever the power goes.
fn write(path: &Path, content: &[u8]) -> Result<(), EnrollError> {
    let partial = path.with_extension("partial");
    let _ = fs::remove_file(&partial);
    let written = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&partial, path)
    };
    written().map_err(at(path))?;
    sync_directory(path.parent().unwrap_or(Path::new("")))
}

/// Makes the names in a directory durable.
fn sync_directory(path: &Path) -> Result<(), EnrollError> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    File::open(path).and_then(|directory| directory.sync_all()).map_err(at(path))
}

fn at(path: &Path) -> impl Fn(io::Error) -> EnrollError {
    |source| EnrollError::File { path: path.into(), source }
}

#[cfg(test)]
mod tests;
