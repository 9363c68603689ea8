//! The worker's configuration. A command-line flag overrides an environment variable (`POSTERN_*`), which
//! overrides the TOML file, which overrides the default.

mod command_line;
pub mod handlers;

use std::env;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use config::ConfigError;
use postern_types::{Tenant, Topic, TopicTemplate};
use tracing_subscriber::filter::LevelFilter;

use crate::proxy::Proxy;
use command_line::Options;
use handlers::Sections;

pub use command_line::{Command, CommandLine, Doctor, EnrollOptions};

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
    /// The tenant whose jobs the worker runs.
    pub tenant: Tenant,
    /// The topic that jobs arrive on.
    pub job_topic: Topic,
    /// The topic that answers are published on.
    pub answer_topic: Topic,
    /// The topic that cancelled jobs are announced on, to all workers of the tenant.
    pub cancel_topic: Topic,
    /// The topic of commands to this worker.
    pub command_topic: Topic,
    /// The topic that the progress of jobs is published on.
    pub progress_topic: Topic,
    /// The topic of this worker's retained state.
    pub presence_topic: Topic,
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
    /// Where the worker's state and metrics are served, if anywhere.
    pub status_address: Option<SocketAddr>,
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
    /// The handlers that the file describes, beside those of the program.
    pub handlers: Sections,
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
    /// A section `[handlers.NAME]` describes no handler that can run.
    #[error("handlers.{name}: {problem}")]
    Handler {
        /// The section's name, which is the job's kind.
        name: String,
        /// What is wrong with the section, and what would be right.
        problem: String,
    },
}

impl Config {
    /// Reads the configuration file that `line` names, and merges it with the flags and environment variables.
    pub fn load(line: &CommandLine) -> Result<Self, InvalidConfig> {
        let (options, handlers) = line.options()?;
        Ok(Self { handlers, ..Self::new(options)? })
    }

    fn new(options: Options) -> Result<Self, InvalidConfig> {
        let tenant = value("tenant", Tenant::parse(options.tenant.as_deref().unwrap_or("tenant1")))?;
        let topic = |option, given: Option<String>, default: &str| {
            let template = TopicTemplate::parse(given.unwrap_or_else(|| default.into()));
            value(option, template.and_then(|template| template.for_default(&tenant)))
        };
        let client_id = client_id(options.client_id)?;
        let own_topic = |topic: fn(&Tenant, &str) -> _| value("client_id", topic(&tenant, &client_id));
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
            cancel_topic: Topic::cancel(&tenant),
            command_topic: own_topic(Topic::command)?,
            progress_topic: Topic::progress(&tenant),
            presence_topic: own_topic(Topic::presence)?,
            tenant: tenant.clone(),
            default_kind: options.default_kind.unwrap_or_else(|| "add".into()),
            concurrency: usize::from(within("concurrency", options.concurrency.unwrap_or(8), 1, 256, "")?),
            max_jobs: within("max_jobs", options.max_jobs.unwrap_or(1_000), 1, 100_000, "")? as usize,
            state_dir: state_dir(options.state_dir, &client_id)?,
            remember_answers: seconds(options.remember_answers_seconds.unwrap_or(86_400)),
            status_address: options.status_address.as_deref().map(status_address).transpose()?,
            drain: seconds(options.drain_seconds.unwrap_or(20)),
            session_expiry_seconds: session_expiry(options.session_expiry_seconds.unwrap_or(3_600))?,
            keep_alive_seconds: keep_alive(options.keep_alive_seconds.unwrap_or(30))?,
            log_level: value("log_level", log_level.map_err(|_| "it must be error, warn, info or debug"))?,
            client_id,
            handlers: Sections::new(),
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

/// The client id that a worker cannot have: commands to it would be taken for cancelled jobs by all workers.
pub(crate) const RESERVED_CLIENT_ID: &str = "cancel";

fn client_id(given: Option<String>) -> Result<String, InvalidConfig> {
    let client_id = required("client_id", given)?;
    if client_id == RESERVED_CLIENT_ID {
        let problem = "no worker can be called cancel, because the topic {tenant}/to/worker/cancel is for cancelled jobs; \
                       choose another name, such as plant-7";
        return value("client_id", Err(problem));
    }
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
/// The address of the status server. It has no authentication, so it must be a loopback address.
fn status_address(given: &str) -> Result<SocketAddr, InvalidConfig> {
    let address = given.parse().ok().filter(|address: &SocketAddr| address.ip().is_loopback());
    let problem = format!("{given:?} is not a loopback address with a port, such as 127.0.0.1:9464");
    value("status_address", address.ok_or(problem))
}

fn state_dir(given: Option<String>, client_id: &str) -> Result<PathBuf, InvalidConfig> {
    if let Some(given) = given {
        return Ok(given.into());
    }
    // systemd lists the directories of StateDirectory= here, separated by colons.
    if let Some(directories) = variable("STATE_DIRECTORY") {
        let first = directories.split(':').next().unwrap_or_default();
        return Ok(first.into());
    }

    let base = state_base().ok_or(InvalidConfig::Missing("state_dir"))?;
    Ok(base.join("postern-worker").join(client_id.replace('/', "_")))
}

/// The folder in which programs of this user keep their state.
#[cfg(unix)]
fn state_base() -> Option<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Some("/var/lib".into());
    }
    let home = || variable("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    variable("XDG_STATE_HOME").map(PathBuf::from).or_else(home)
}

#[cfg(not(unix))]
fn state_base() -> Option<PathBuf> {
    variable("ProgramData").map(PathBuf::from)
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
