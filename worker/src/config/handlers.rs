//! The `[handlers.NAME]` sections of the configuration file: the data of each type of handler.
//!
//! The name is the job's `Kind`. `handlers` turns a section into a handler and checks what needs more than the
//! section itself.

mod secret;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::handler::Policy;

pub use secret::{Secret, SecretError};

/// The handlers of a configuration file, by the kind of their jobs.
pub type Sections = BTreeMap<String, Section>;

/// One section.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Section {
    /// Runs a statement in a database.
    Sql(Sql),
    /// Sends a request to a service.
    Http(Http),
    /// Starts a program.
    Exec(Exec),
    /// Reads, and where allowed writes, files below a directory.
    Files(Files),
}

/// What happens to a job that was running when the worker died; see [`Policy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyName {
    /// [`Policy::Once`]
    Once,
    /// [`Policy::Idempotent`]
    Idempotent,
    /// [`Policy::ExactlyOnce`]
    ExactlyOnce,
}

impl From<PolicyName> for Policy {
    fn from(name: PolicyName) -> Self {
        match name {
            PolicyName::Once => Self::Once,
            PolicyName::Idempotent => Self::Idempotent,
            PolicyName::ExactlyOnce => Self::ExactlyOnce,
        }
    }
}

/// `type = "sql"`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sql {
    /// The database: `postgres://`, `mysql://` or `sqlite:///PATH`. The URL may contain a password.
    pub url: Secret,
    /// The one statement. `:name` is a parameter.
    pub statement: String,
    /// Whether the statement runs in a transaction that cannot write.
    #[serde(default = "yes")]
    pub read_only: bool,
    /// The most rows of a result. More are a failure. Unless given, 10,000 for `json` and no limit for `csv`.
    pub max_rows: Option<usize>,
    /// The form of the result.
    #[serde(default)]
    pub format: Format,
    /// The CA of the server's certificate (PEM); the system's CAs unless given.
    pub ca: Option<PathBuf>,
    /// `idempotent` for a statement that only reads, otherwise `once`, unless given.
    pub policy: Option<PolicyName>,
    /// How long a job may take if its own deadline does not end it before.
    #[serde(default = "timeout_seconds")]
    pub timeout_seconds: u32,
}

/// The form of the result of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A JSON array with an object for each row.
    #[default]
    Json,
    /// RFC 4180, with a header. The file travels through the claim check, whatever its size.
    Csv,
}

/// `type = "http"`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// The URL that every path starts from, `http://` or `https://`.
    pub base_url: String,
    /// The methods that a job may use.
    #[serde(default = "get")]
    pub methods: Vec<String>,
    /// Headers of every request. A job cannot change them.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// Statuses of 300 and above that are results rather than failures.
    #[serde(default)]
    pub accept_status: Vec<u16>,
    /// The CA of the service's certificate (PEM); the system's CAs unless given.
    pub ca: Option<PathBuf>,
    /// The worker's certificate for this service (PEM).
    pub client_cert: Option<PathBuf>,
    /// The key of `client_cert` (PEM).
    pub client_key: Option<PathBuf>,
    /// `idempotent` if all methods are GET or HEAD, otherwise `once`, unless given.
    pub policy: Option<PolicyName>,
    /// How long a job may take if its own deadline does not end it before.
    #[serde(default = "timeout_seconds")]
    pub timeout_seconds: u32,
}

/// `type = "exec"`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exec {
    /// The absolute path of the program.
    pub program: PathBuf,
    /// The arguments. `{name}` is a placeholder, `{{` and `}}` are braces.
    #[serde(default)]
    pub args: Vec<String>,
    /// The names of the environment variables that the program inherits.
    #[serde(default)]
    pub env: Vec<String>,
    /// The program's working directory; `/` unless given.
    pub directory: Option<PathBuf>,
    /// `once` unless given.
    pub policy: Option<PolicyName>,
    /// How long a job may take if its own deadline does not end it before.
    #[serde(default = "timeout_seconds")]
    pub timeout_seconds: u32,
}

/// `type = "files"`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// The directory that contains all files of this handler.
    pub root: PathBuf,
    /// What a job may do.
    #[serde(default = "reading")]
    pub operations: Vec<Operation>,
    /// `idempotent` unless given: every operation may be repeated.
    pub policy: Option<PolicyName>,
    /// How long a job may take if its own deadline does not end it before.
    #[serde(default = "timeout_seconds")]
    pub timeout_seconds: u32,
}

/// An operation on a file or a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// The content of a file.
    Read,
    /// The entries of a directory.
    List,
    /// The size and SHA-256 of a file.
    Checksum,
    /// Creates or replaces a file.
    Write,
    /// Removes a file.
    Delete,
}

impl Section {
    /// Lets relative paths start at `folder`, the directory of the configuration file.
    pub(super) fn resolve(&mut self, folder: &Path) {
        let join = |path: &mut PathBuf| *path = folder.join(&*path);
        match self {
            Self::Sql(sql) => {
                sql.url.resolve(folder);
                sql.ca.as_mut().map(join);
            }
            Self::Http(http) => {
                http.headers.values_mut().for_each(|value| value.resolve(folder));
                [&mut http.ca, &mut http.client_cert, &mut http.client_key]
                    .into_iter()
                    .flatten()
                    .for_each(join);
            }
            Self::Exec(exec) => {
                exec.directory.as_mut().map(join);
            }
            Self::Files(files) => join(&mut files.root),
        }
    }
}

fn yes() -> bool {
    true
}

/// An hour: a job without a deadline must not keep its slot for ever.
fn timeout_seconds() -> u32 {
    3_600
}

fn get() -> Vec<String> {
    vec!["GET".into()]
}

fn reading() -> Vec<Operation> {
    vec![Operation::Read, Operation::List, Operation::Checksum]
}

#[cfg(test)]
mod tests;
