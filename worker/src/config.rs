//! The worker's configuration. A command-line flag overrides an environment variable (`POSTERN_*`), which
//! overrides the TOML file, which overrides the default.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::{Parser, Subcommand};
use config::{Config as Sources, ConfigError, File, FileFormat};
use postern_types::{Tenant, Topic, TopicTemplate};
use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::LevelFilter;

use crate::proxy::Proxy;

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
struct Options {
    /// AWS IoT Core's data endpoint: HOST or HOST:PORT (8883 unless given; 443 works too).
    #[arg(long, env = "POSTERN_ENDPOINT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<String>,
    /// The client id: the name of the thing that the certificate is attached to.
    #[arg(long, env = "POSTERN_CLIENT_ID")]
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
    /// The worker's certificate, PEM.
    #[arg(long, env = "POSTERN_CERT", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    cert: Option<String>,
    /// The certificate's private key, PEM.
    #[arg(long, env = "POSTERN_KEY", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// The CA of the endpoint's certificate, PEM; the system's own CAs unless given.
    #[arg(long, env = "POSTERN_CA", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    ca: Option<String>,
    /// The tenant whose jobs this worker runs [default: tenant1].
    #[arg(long, env = "POSTERN_TENANT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    /// Share the tenant's jobs with the other workers of this group. The thing's attribute `group` must have
    /// the same value.
    #[arg(long, env = "POSTERN_GROUP")]
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    /// The topic that jobs arrive on [default: {tenant}/to/worker].
    #[arg(long, env = "POSTERN_JOB_TOPIC", value_name = "TOPIC")]
    #[serde(skip_serializing_if = "Option::is_none")]
    job_topic: Option<String>,
    /// The topic that answers are published on [default: {tenant}/to/lambda].
    #[arg(long, env = "POSTERN_ANSWER_TOPIC", value_name = "TOPIC")]
    #[serde(skip_serializing_if = "Option::is_none")]
    answer_topic: Option<String>,
    /// The kind of a job that does not name one [default: add].
    #[arg(long, env = "POSTERN_DEFAULT_KIND", value_name = "KIND")]
    #[serde(skip_serializing_if = "Option::is_none")]
    default_kind: Option<String>,
    /// How many jobs run at a time, 1 to 256 [default: 8].
    #[arg(long, env = "POSTERN_CONCURRENCY", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    concurrency: Option<u16>,
    /// How many jobs the worker holds at most, waiting and running, 1 to 100000; the broker keeps the rest
    /// [default: 1000].
    #[arg(long, env = "POSTERN_MAX_JOBS", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_jobs: Option<u32>,
    /// The directory of the worker's journal. The default under systemd is the service's state
    /// directory. Otherwise it is postern-worker/CLIENT in /var/lib for root, and in ~/.local/state for other
    /// users.
    #[arg(long, env = "POSTERN_STATE_DIR", value_name = "DIRECTORY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    state_dir: Option<String>,
    /// How long the journal remembers answers, in seconds [default: 86400, a day].
    #[arg(long, env = "POSTERN_REMEMBER_ANSWERS_SECONDS", value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    remember_answers_seconds: Option<u32>,
    /// How long running jobs may continue after a SIGTERM, in seconds [default: 20].
    #[arg(long, env = "POSTERN_DRAIN_SECONDS", value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    drain_seconds: Option<u32>,
    /// How long the broker keeps jobs for a worker that is away, in seconds, at least 60 [default: 3600, AWS
    /// IoT Core's own limit unless it was raised].
    #[arg(long, env = "POSTERN_SESSION_EXPIRY_SECONDS", value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    session_expiry_seconds: Option<u32>,
    /// The MQTT keep-alive in seconds, 30 to 1200 as on AWS IoT Core [default: 30].
    #[arg(long, env = "POSTERN_KEEP_ALIVE_SECONDS", value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_alive_seconds: Option<u16>,
    /// The HTTP proxy, http://USER:PASSWORD@HOST:PORT, or `none` [default: `HTTPS_PROXY`, unless `NO_PROXY` exempts
    /// the endpoint]. Prefer the variable or the file: other users can read a command line.
    #[arg(long, env = "POSTERN_PROXY", value_name = "URL", hide_env_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy: Option<String>,
    /// error, warn, info or debug [default: info].
    #[arg(long, env = "POSTERN_LOG_LEVEL", value_name = "LEVEL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    log_level: Option<String>,
}

impl Options {
    /// Reads a TOML file. Relative paths in it start at the file's directory, so that the folder can be moved.
    fn from_file(path: &Path) -> Result<Self, InvalidConfig> {
        let file = Sources::builder().add_source(File::from(path).format(FileFormat::Toml)).build()?;
        let mut options: Self = file.try_deserialize()?;

        let folder = path.parent().unwrap_or(Path::new(""));
        let paths = [&mut options.cert, &mut options.key, &mut options.ca, &mut options.state_dir];
        for path in paths.into_iter().flatten() {
            *path = folder.join(&*path).to_string_lossy().into_owned();
        }
        Ok(options)
    }
}

/// What a worker runs with. The fields are public so that a program can build a configuration of its own;
/// [`Config::load`] checks the values that users give.
#[derive(Debug, Clone)]
pub struct Config {
    /// The broker's address.
    pub endpoint: Endpoint,
    /// The MQTT client id: the thing's name.
    pub client_id: String,
    /// The PEM file of the worker's certificate.
    pub cert: PathBuf,
    /// The PEM file of the certificate's private key.
    pub key: PathBuf,
    /// The PEM file of the CA that signed the broker's certificate; the system's CAs if absent.
    pub ca: Option<PathBuf>,
    /// The group of workers that share the tenant's jobs, if any.
    pub group: Option<String>,
    /// The topic that jobs arrive on.
    pub job_topic: Topic,
    /// The topic that answers are published on.
    pub answer_topic: Topic,
    /// The kind of a job that does not name one.
    pub default_kind: String,
    /// How many jobs run at a time.
    pub concurrency: usize,
    /// How many jobs the worker holds at most, waiting and running.
    pub max_jobs: usize,
    /// The directory of the journal.
    pub state_dir: PathBuf,
    /// How long the journal remembers answers.
    pub remember_answers: Duration,
    /// How long running jobs may continue after a stop was requested.
    pub drain: Duration,
    /// The MQTT Session Expiry Interval.
    pub session_expiry_seconds: u32,
    /// The MQTT Keep Alive.
    pub keep_alive_seconds: u16,
    /// The HTTP proxy through which the connection goes, if any.
    pub proxy: Option<Proxy>,
    /// The lowest level that is logged.
    pub log_level: LevelFilter,
}

/// A configuration that the worker cannot use. The message names the option and what would be right.
#[derive(Debug, thiserror::Error)]
pub enum InvalidConfig {
    /// The file cannot be read, or one of its values has the wrong type.
    #[error("configuration: {0}")]
    Source(#[from] ConfigError),
    /// An option that has no default is missing.
    #[error("{0} is missing: give --{flag}, POSTERN_{variable} or {0} in the file", flag = .0.replace('_', "-"), variable = .0.to_uppercase())]
    Missing(&'static str),
    /// An option has a value that it cannot have.
    #[error("{option}: {problem}")]
    Value {
        /// The option's name in the file.
        option: &'static str,
        /// What is wrong with the value, and what would be right.
        problem: String,
    },
}

impl Config {
    /// Reads the configuration file that `line` names, and merges it with the flags and environment variables.
    pub fn load(line: &CommandLine) -> Result<Self, InvalidConfig> {
        // `doctor` takes the worker's options before its name and after it.
        let mut given = vec![&line.sources];
        if let Some(Command::Doctor(doctor)) = &line.command {
            given.push(&doctor.sources);
        }

        let mut sources = Sources::builder();
        for path in given.iter().filter_map(|given| given.config.as_deref()) {
            sources = sources.add_source(Sources::try_from(&Options::from_file(path)?)?);
        }
        for given in &given {
            sources = sources.add_source(Sources::try_from(&given.options)?);
        }
        let options = sources.build()?.try_deserialize()?;
        Self::new(options)
    }

    fn new(options: Options) -> Result<Self, InvalidConfig> {
        let tenant = value("tenant", Tenant::parse(options.tenant.as_deref().unwrap_or("tenant1")))?;
        let topic = |option, given: Option<String>, default: &str| {
            let template = TopicTemplate::parse(given.unwrap_or_else(|| default.into()));
            value(option, template.and_then(|template| template.for_default(&tenant)))
        };
        let client_id = client_id(options.client_id)?;
        let log_level = options.log_level.as_deref().unwrap_or("info").parse();

        let endpoint: Endpoint = value("endpoint", required("endpoint", options.endpoint)?.parse())?;

        Ok(Self {
            proxy: proxy(options.proxy.as_deref(), &endpoint)?,
            endpoint,
            cert: required("cert", options.cert)?.into(),
            key: required("key", options.key)?.into(),
            ca: options.ca.map(PathBuf::from),
            group: options.group.map(group).transpose()?,
            job_topic: topic("job_topic", options.job_topic, "{tenant}/to/worker")?,
            answer_topic: topic("answer_topic", options.answer_topic, "{tenant}/to/lambda")?,
            default_kind: options.default_kind.unwrap_or_else(|| "add".into()),
            concurrency: usize::from(within("concurrency", options.concurrency.unwrap_or(8), 1, 256, "")?),
            max_jobs: within("max_jobs", options.max_jobs.unwrap_or(1_000), 1, 100_000, "")? as usize,
            state_dir: state_dir(options.state_dir, &client_id)?,
            remember_answers: seconds(options.remember_answers_seconds.unwrap_or(86_400)),
            drain: seconds(options.drain_seconds.unwrap_or(20)),
            session_expiry_seconds: session_expiry(options.session_expiry_seconds.unwrap_or(3_600))?,
            keep_alive_seconds: keep_alive(options.keep_alive_seconds.unwrap_or(30))?,
            log_level: value("log_level", log_level.map_err(|_| "it must be error, warn, info or debug"))?,
            client_id,
        })
    }

    /// The topic filter that the worker subscribes to: the job topic, shared with the group's other workers if
    /// there is a group.
    pub fn job_filter(&self) -> String {
        match &self.group {
            Some(group) => format!("$share/{group}/{}", self.job_topic),
            None => self.job_topic.to_string(),
        }
    }
}

/// The given proxy, else the environment's. `none` is for a host whose other programs use a proxy.
fn proxy(given: Option<&str>, endpoint: &Endpoint) -> Result<Option<Proxy>, InvalidConfig> {
    match given {
        Some("none") => Ok(None),
        Some(url) => value("proxy", url.parse().map(Some)),
        None => value("HTTPS_PROXY", Proxy::from_environment(&endpoint.host, |name| env::var(name).ok())),
    }
}

fn client_id(given: Option<String>) -> Result<String, InvalidConfig> {
    let client_id = required("client_id", given)?;
    if client_id.is_empty() || client_id.len() > 128 || client_id.starts_with('$') {
        return value("client_id", Err("it must have 1 to 128 bytes and not start with $, such as plant-7"));
    }
    Ok(client_id)
}

/// A group is one level of the filter `$share/{group}/…` and the value of a thing's attribute. The characters
/// are those that both allow.
fn group(name: String) -> Result<String, InvalidConfig> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._:-".contains(c);
    if name.is_empty() || name.len() > 128 || !name.chars().all(allowed) {
        let problem = format!("{name:?} must have 1 to 128 letters, digits and . _ : -, such as plant");
        return value("group", Err(problem));
    }
    Ok(name)
}

fn keep_alive(seconds: u16) -> Result<u16, InvalidConfig> {
    let reason = "; AWS IoT Core takes no other, and 0 would leave a dead connection unnoticed";
    within("keep_alive_seconds", seconds, 30, 1_200, reason)
}

fn session_expiry(seconds: u32) -> Result<u32, InvalidConfig> {
    let reason = "; the broker drops the jobs of a worker that is away for longer than this";
    within("session_expiry_seconds", seconds, 60, u32::MAX, reason)
}

/// Checks `least <= given <= most`; `reason` ends the message.
fn within<T: PartialOrd + fmt::Display + Copy>(
    option: &'static str,
    given: T,
    least: T,
    most: T,
    reason: &str,
) -> Result<T, InvalidConfig> {
    if (&least..=&most).contains(&&given) {
        return Ok(given);
    }
    value(option, Err(format!("{given} is not within {least} to {most}{reason}")))
}

fn seconds(number: u32) -> Duration {
    Duration::from_secs(number.into())
}

/// The given directory, or the default for this user. Each client id has a default directory of its own, so
/// that two workers on one machine do not meet.
fn state_dir(given: Option<String>, client_id: &str) -> Result<PathBuf, InvalidConfig> {
    if let Some(given) = given {
        return Ok(given.into());
    }
    // systemd lists the directories of StateDirectory= here, separated by colons.
    if let Some(directories) = variable("STATE_DIRECTORY") {
        let first = directories.split(':').next().unwrap_or_default();
        return Ok(first.into());
    }

    let base = if rustix::process::geteuid().is_root() {
        PathBuf::from("/var/lib")
    } else if let Some(directory) = variable("XDG_STATE_HOME") {
        PathBuf::from(directory)
    } else {
        let home = variable("HOME").ok_or(InvalidConfig::Missing("state_dir"))?;
        PathBuf::from(home).join(".local/state")
    };
    Ok(base.join("postern-worker").join(client_id.replace('/', "_")))
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|text| !text.is_empty())
}

fn required(option: &'static str, given: Option<String>) -> Result<String, InvalidConfig> {
    given.ok_or(InvalidConfig::Missing(option))
}

fn value<T, E: fmt::Display>(option: &'static str, value: Result<T, E>) -> Result<T, InvalidConfig> {
    value.map_err(|problem| InvalidConfig::Value { option, problem: problem.to_string() })
}

/// The broker's address, written as `HOST` or `HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The name or address. The broker's certificate must be valid for it.
    pub host: String,
    /// The port: 8883 (MQTT over TLS) unless given.
    pub port: u16,
}

impl FromStr for Endpoint {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WANT: &str = "it must be HOST or HOST:PORT, such as a1b2c3-ats.iot.eu-west-1.amazonaws.com";

        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| WANT)?),
            None => (text, 8_883),
        };
        let named = !host.is_empty() && !host.contains(['/', ':', ' ']) && port != 0;
        if named { Ok(Self { host: host.into(), port }) } else { Err(WANT) }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests;
