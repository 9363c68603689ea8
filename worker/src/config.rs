//! The worker's configuration: flags, else environment variables (`POSTERN_*`), else a TOML file, else
//! defaults.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Parser;
use config::{Config, ConfigError, File, FileFormat};
use postern_types::{Tenant, Topic, TopicTemplate};
use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::LevelFilter;

/// The command line. Every option has an environment variable and, in the file, the same name with
/// underscores.
#[derive(Debug, Parser)]
#[command(
    name = "postern-worker",
    version,
    about = "Runs jobs from AWS Step Functions inside a private network."
)]
pub struct CommandLine {
    /// Test certificate, connection and subscription, say what is wrong, and exit. Takes the connection from a
    /// worker that runs under the same client id; that one comes back by itself.
    #[arg(long)]
    pub check: bool,
    /// A TOML file with any of the options below, with underscores: `client_id = "plant-7"`.
    #[arg(long, env = "POSTERN_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

/// All options, as they stand on the command line, in the environment or in the file.
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
    /// Whose jobs [default: tenant1].
    #[arg(long, env = "POSTERN_TENANT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    /// Where jobs come in [default: {tenant}/to/worker].
    #[arg(long, env = "POSTERN_JOB_TOPIC", value_name = "TOPIC")]
    #[serde(skip_serializing_if = "Option::is_none")]
    job_topic: Option<String>,
    /// Where answers go [default: {tenant}/to/lambda].
    #[arg(long, env = "POSTERN_ANSWER_TOPIC", value_name = "TOPIC")]
    #[serde(skip_serializing_if = "Option::is_none")]
    answer_topic: Option<String>,
    /// The kind of a job that names none [default: add].
    #[arg(long, env = "POSTERN_DEFAULT_KIND", value_name = "KIND")]
    #[serde(skip_serializing_if = "Option::is_none")]
    default_kind: Option<String>,
    /// How many jobs run at a time, 1 to 256 [default: 8].
    #[arg(long, env = "POSTERN_CONCURRENCY", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    concurrency: Option<u16>,
    /// After a SIGTERM, how long running jobs may go on, in seconds [default: 20].
    #[arg(long, env = "POSTERN_DRAIN_SECONDS", value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    drain_seconds: Option<u32>,
    /// How long the broker keeps jobs for a worker that is away, in seconds [default: 3600, AWS's own limit
    /// unless raised].
    #[arg(long, env = "POSTERN_SESSION_EXPIRY_SECONDS", value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    session_expiry_seconds: Option<u32>,
    /// MQTT keep-alive, in seconds, 30 to 1200 on AWS IoT Core [default: 30].
    #[arg(long, env = "POSTERN_KEEP_ALIVE_SECONDS", value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_alive_seconds: Option<u16>,
    /// error, warn, info or debug [default: info].
    #[arg(long, env = "POSTERN_LOG_LEVEL", value_name = "LEVEL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    log_level: Option<String>,
}

impl CommandLine {
    /// All settings, from everywhere.
    pub fn settings(self) -> Result<Settings, InvalidSettings> {
        let mut sources = Config::builder();
        if let Some(path) = &self.config {
            sources = sources.add_source(File::from(path.as_path()).format(FileFormat::Toml));
        }
        let options = sources.add_source(Config::try_from(&self.options)?).build()?.try_deserialize()?;
        Settings::new(options)
    }
}

/// What a worker runs with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the broker is.
    pub endpoint: Endpoint,
    /// The thing's name.
    pub client_id: String,
    /// PEM file.
    pub cert: PathBuf,
    /// PEM file.
    pub key: PathBuf,
    /// PEM file; the system's CAs without.
    pub ca: Option<PathBuf>,
    /// Where jobs come in.
    pub job_topic: Topic,
    /// Where answers go.
    pub answer_topic: Topic,
    /// The kind of a job that names none.
    pub default_kind: String,
    /// How many jobs run at a time.
    pub concurrency: usize,
    /// How long running jobs may go on after a stop was asked for.
    pub drain: Duration,
    /// MQTT Session Expiry Interval.
    pub session_expiry_seconds: u32,
    /// MQTT Keep Alive.
    pub keep_alive_seconds: u16,
    /// How much is logged.
    pub log_level: LevelFilter,
}

/// Settings that cannot be used: which, and what would be right.
#[derive(Debug, thiserror::Error)]
pub enum InvalidSettings {
    /// The file, or a type in it.
    #[error("configuration: {0}")]
    Source(#[from] ConfigError),
    /// An option without a default.
    #[error("{0} is missing: give --{flag}, POSTERN_{variable} or {0} in the file", flag = .0.replace('_', "-"), variable = .0.to_uppercase())]
    Missing(&'static str),
    /// An option's value.
    #[error("{option}: {problem}")]
    Value {
        /// Which.
        option: &'static str,
        /// What is wrong, and what would be right.
        problem: String,
    },
}

impl Settings {
    fn new(options: Options) -> Result<Self, InvalidSettings> {
        let tenant = value("tenant", Tenant::parse(options.tenant.as_deref().unwrap_or("tenant1")))?;
        let topic = |option, given: Option<String>, default: &str| {
            let template = TopicTemplate::parse(given.unwrap_or_else(|| default.into()));
            value(option, template.and_then(|template| template.for_default(&tenant)))
        };
        let client_id = options.client_id.ok_or(InvalidSettings::Missing("client_id"))?;
        if client_id.is_empty() || client_id.len() > 128 || client_id.starts_with('$') {
            return value(
                "client_id",
                Err("it must have 1 to 128 bytes and not start with $, such as plant-7"),
            );
        }
        let concurrency = options.concurrency.unwrap_or(8);
        if !(1..=256).contains(&concurrency) {
            return value("concurrency", Err(format!("{concurrency} is not within 1 to 256")));
        }
        let log_level = options.log_level.as_deref().unwrap_or("info").parse();
        Ok(Self {
            endpoint: value("endpoint", required("endpoint", options.endpoint)?.parse())?,
            client_id,
            cert: required("cert", options.cert)?.into(),
            key: required("key", options.key)?.into(),
            ca: options.ca.map(PathBuf::from),
            job_topic: topic("job_topic", options.job_topic, "{tenant}/to/worker")?,
            answer_topic: topic("answer_topic", options.answer_topic, "{tenant}/to/lambda")?,
            default_kind: options.default_kind.unwrap_or_else(|| "add".into()),
            concurrency: concurrency.into(),
            drain: Duration::from_secs(options.drain_seconds.unwrap_or(20).into()),
            session_expiry_seconds: options.session_expiry_seconds.unwrap_or(3_600),
            keep_alive_seconds: options.keep_alive_seconds.unwrap_or(30),
            log_level: value("log_level", log_level.map_err(|_| "it must be error, warn, info or debug"))?,
        })
    }
}

fn required(option: &'static str, given: Option<String>) -> Result<String, InvalidSettings> {
    given.ok_or(InvalidSettings::Missing(option))
}

fn value<T, E: fmt::Display>(option: &'static str, value: Result<T, E>) -> Result<T, InvalidSettings> {
    value.map_err(|problem| InvalidSettings::Value { option, problem: problem.to_string() })
}

/// `HOST` or `HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Name or address: what the endpoint's certificate must be for.
    pub host: String,
    /// 8883, MQTT over TLS, unless given.
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
mod tests {
    use super::*;

    fn settings(arguments: &[&str]) -> Result<Settings, InvalidSettings> {
        CommandLine::try_parse_from([&["postern-worker"], arguments].concat()).unwrap().settings()
    }

    const NEEDED: [&str; 8] =
        ["--endpoint", "broker.example", "--client-id", "w1", "--cert", "c.pem", "--key", "k.pem"];

    #[test]
    fn what_is_needed_is_enough() {
        let settings = settings(&NEEDED).unwrap();
        assert_eq!(settings.endpoint.to_string(), "broker.example:8883");
        assert_eq!(settings.job_topic.as_str(), "tenant1/to/worker");
        assert_eq!(settings.answer_topic.as_str(), "tenant1/to/lambda");
        assert_eq!((settings.concurrency, settings.drain), (8, Duration::from_secs(20)));
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let folder = std::env::temp_dir().join(format!("postern-config-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("worker.toml");
        std::fs::write(&path, "tenant = \"plant-7\"\nconcurrency = 3\nclient_id = \"from-file\"\n").unwrap();
        let file = ["--config", path.to_str().unwrap()];
        let from_both = settings(&[&NEEDED[..], &file[..]].concat()).unwrap();
        assert_eq!(from_both.client_id, "w1");
        assert_eq!(from_both.concurrency, 3);
        assert_eq!(from_both.job_topic.as_str(), "plant-7/to/worker");

        std::fs::write(&path, "tennant = \"plant-7\"\n").unwrap();
        let error = settings(&[&NEEDED[..], &file[..]].concat()).unwrap_err().to_string();
        assert!(error.contains("tennant"), "{error}");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn an_error_names_the_option_and_what_would_be_right() {
        assert!(
            settings(&[]).unwrap_err().to_string().contains("--client-id, POSTERN_CLIENT_ID or client_id")
        );
        for (flags, words) in [
            (["--tenant", "a/b"], "tenant: "),
            (["--job-topic", "jobs/#"], "job_topic: "),
            (["--concurrency", "0"], "concurrency: 0 is not within 1 to 256"),
            (["--endpoint", "https://x"], "endpoint: it must be HOST or HOST:PORT"),
            (["--log-level", "loud"], "log_level: it must be"),
            (["--client-id", "$me"], "client_id: it must have"),
        ] {
            let kept = NEEDED.chunks(2).filter(|pair| pair[0] != flags[0]).flatten().copied();
            let arguments: Vec<_> = kept.chain(flags).collect();
            let error = settings(&arguments).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn an_endpoint_may_have_a_port() {
        assert_eq!("h:443".parse(), Ok(Endpoint { host: "h".into(), port: 443 }));
        for bad in ["", ":8883", "h:", "h:0", "h:99999", "mqtts://h"] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
    }
}
