//! The command line, the environment and the configuration file, as users write them. `Config` checks
//! their values.

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};
use config::{Config as Sources, ConfigError, File, FileFormat};
use serde::{Deserialize, Serialize};

use super::handlers::Sections;

/// The command line. Every option has an environment variable and, in the file, the same name with
/// underscores.
#[derive(Debug, Parser)]
#[command(about = "Runs jobs from AWS Step Functions inside a private network.")]
pub struct CommandLine {
    /// What to do instead of running jobs.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The same as the command `doctor`.
    #[arg(long)]
    pub check: bool,
    #[command(flatten)]
    sources: FileAndOptions,
}

/// What the program does other than running jobs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Tests what the worker needs (state directory, clock, proxy, certificate, connection, subscription) and prints
    /// what is wrong. The test takes the connection from a worker that runs under the same client id; that worker
    /// reconnects by itself.
    Doctor(Box<Doctor>),
    /// Makes a new key on this machine, which never leaves it, and a certificate signing request; then installs the
    /// certificate. A running worker takes it up without a restart.
    Enroll(EnrollOptions),
}

/// The options of `doctor`: those of the worker.
#[derive(Debug, clap::Args)]
pub struct Doctor {
    #[command(flatten)]
    sources: FileAndOptions,
}

/// The options of `enroll`.
#[derive(Debug, clap::Args)]
pub struct EnrollOptions {
    /// The thing's name: the worker's client id and the subject of the request.
    #[arg(long, env = "POSTERN_CLIENT_ID")]
    pub client_id: String,
    /// The folder of the identities. The worker reads FOLDER/current/cert.pem and FOLDER/current/key.pem.
    #[arg(long, value_name = "FOLDER", default_value = "identity")]
    pub folder: PathBuf,
    /// The signed certificate (PEM) of the request that was made before.
    #[arg(long, value_name = "FILE")]
    pub install: Option<PathBuf>,
}

/// A configuration file, and options that override it.
#[derive(Debug, Default, clap::Args)]
struct FileAndOptions {
    /// A TOML file with any of the options below, with underscores: `client_id = "plant-7"`. Relative paths in it
    /// start at the file's directory.
    #[arg(long, env = "POSTERN_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

/// All options, as the command line, the environment and the file give them.
#[derive(Debug, Default, clap::Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    /// AWS IoT Core's data endpoint: HOST or HOST:PORT (8883 unless given; 443 works too).
    #[arg(long, env = "POSTERN_ENDPOINT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) endpoint: Option<String>,
    /// The client id: the name of the thing that the certificate is attached to.
    #[arg(long, env = "POSTERN_CLIENT_ID")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client_id: Option<String>,
    /// The worker's certificate, PEM.
    #[arg(long, env = "POSTERN_CERT", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cert: Option<String>,
    /// The certificate's private key, PEM.
    #[arg(long, env = "POSTERN_KEY", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
    /// The CA of the endpoint's certificate, PEM; the system's own CAs unless given.
    #[arg(long, env = "POSTERN_CA", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ca: Option<String>,
    /// The tenant whose jobs this worker runs [default: tenant1].
    #[arg(long, env = "POSTERN_TENANT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tenant: Option<String>,
    /// Share the tenant's jobs with the other workers of this group. The thing's attribute `group` must have
    /// the same value.
    #[arg(long, env = "POSTERN_GROUP")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) group: Option<String>,
    /// The topic that jobs arrive on [default: {tenant}/to/worker].
    #[arg(long, env = "POSTERN_JOB_TOPIC", value_name = "TOPIC")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) job_topic: Option<String>,
    /// The topic that answers are published on [default: {tenant}/to/lambda].
    #[arg(long, env = "POSTERN_ANSWER_TOPIC", value_name = "TOPIC")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) answer_topic: Option<String>,
    /// The kind of a job that does not name one [default: add].
    #[arg(long, env = "POSTERN_DEFAULT_KIND", value_name = "KIND")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) default_kind: Option<String>,
    /// How many jobs run at a time, 1 to 256 [default: 8].
    #[arg(long, env = "POSTERN_CONCURRENCY", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) concurrency: Option<u16>,
    /// How many jobs the worker holds at most, waiting and running, 1 to 100000; the broker keeps the rest
    /// [default: 1000].
    #[arg(long, env = "POSTERN_MAX_JOBS", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_jobs: Option<u32>,
    /// The directory of the worker's journal. The default under systemd is the service's state
    /// directory. Otherwise it is postern-worker/CLIENT in /var/lib for root, and in ~/.local/state for other
    /// users.
    #[arg(long, env = "POSTERN_STATE_DIR", value_name = "DIRECTORY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) state_dir: Option<String>,
    /// How long the journal remembers answers, in seconds [default: 86400, a day].
    #[arg(long, env = "POSTERN_REMEMBER_ANSWERS_SECONDS", value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remember_answers_seconds: Option<u32>,
    /// Serve /healthz, /readyz and /metrics at this loopback address, such as 127.0.0.1:9464.
    #[arg(long, env = "POSTERN_STATUS_ADDRESS", value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status_address: Option<String>,
    /// How long running jobs may continue after a SIGTERM, in seconds [default: 20].
    #[arg(long, env = "POSTERN_DRAIN_SECONDS", value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) drain_seconds: Option<u32>,
    /// How long the broker keeps jobs for a worker that is away, in seconds, at least 60 [default: 3600, AWS
    /// IoT Core's own limit unless it was raised].
    #[arg(long, env = "POSTERN_SESSION_EXPIRY_SECONDS", value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) session_expiry_seconds: Option<u32>,
    /// The MQTT keep-alive in seconds, 30 to 1200 as on AWS IoT Core [default: 30].
    #[arg(long, env = "POSTERN_KEEP_ALIVE_SECONDS", value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) keep_alive_seconds: Option<u16>,
    /// The HTTP proxy, http://USER:PASSWORD@HOST:PORT, or `none` [default: `HTTPS_PROXY`, unless `NO_PROXY` exempts
    /// the endpoint]. Prefer the variable or the file: other users can read a command line.
    #[arg(long, env = "POSTERN_PROXY", value_name = "URL", hide_env_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) proxy: Option<String>,
    /// error, warn, info or debug [default: info].
    #[arg(long, env = "POSTERN_LOG_LEVEL", value_name = "LEVEL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) log_level: Option<String>,
    /// The sections `[handlers.NAME]`, which only a file can have.
    #[arg(skip)]
    #[serde(default, skip_serializing)]
    handlers: Sections,
}

impl CommandLine {
    /// The options of the command line and the environment, those of the file that they name, and the file's handlers.
    pub(super) fn options(&self) -> Result<(Options, Sections), ConfigError> {
        // `doctor` takes the worker's options before its name and after it.
        let mut given = vec![&self.sources];
        if let Some(Command::Doctor(doctor)) = &self.command {
            given.push(&doctor.sources);
        }

        let (mut sources, mut handlers) = (Sources::builder(), Sections::new());
        for path in given.iter().filter_map(|given| given.config.as_deref()) {
            let (options, sections) = Options::from_file(path)?;
            sources = sources.add_source(Sources::try_from(&options)?);
            handlers.extend(sections);
        }
        for given in &given {
            sources = sources.add_source(Sources::try_from(&given.options)?);
        }
        Ok((sources.build()?.try_deserialize()?, handlers))
    }
}

impl Options {
    /// Reads a TOML file. Relative paths in it start at the file's directory, so that the folder can be moved.
    fn from_file(path: &Path) -> Result<(Self, Sections), ConfigError> {
        let file = Sources::builder().add_source(File::from(path).format(FileFormat::Toml)).build()?;
        let mut options: Self = file.try_deserialize()?;
        let mut handlers = std::mem::take(&mut options.handlers);

        let folder = path.parent().unwrap_or(Path::new(""));
        let paths = [&mut options.cert, &mut options.key, &mut options.ca, &mut options.state_dir];
        for path in paths.into_iter().flatten() {
            *path = folder.join(&*path).to_string_lossy().into_owned();
        }
        for section in handlers.values_mut() {
            section.resolve(folder);
        }
        Ok((options, handlers))
    }
}
