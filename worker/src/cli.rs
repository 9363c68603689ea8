//! The `main` function of a worker: command line, logs, signals, exit status. It runs no job itself.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory as _, FromArgMatches as _};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::backoff::Backoff;
use crate::claim::ClaimOptions;
use crate::concurrency;
use crate::config::{Command, CommandLine, Config, EnrollOptions};
use crate::doctor::doctor;
use crate::engine::{Engine, Stopped};
#[cfg(unix)]
use crate::enroll::enroll;
use crate::handler::{Handler, Registry};
use crate::handlers;
use crate::health::Health;
use crate::journal::{Journal, JournalError, Recovered, Retention};
use crate::mqtt::Mqtt;
use crate::pause::Pause;
use crate::presence::About;
#[cfg(unix)]
use crate::service;
use crate::signals::{PauseRequests, StopRequests};
use crate::status;
use crate::threads::Threads;
use crate::tls::TlsError;

/// How many bytes of sent answers the journal keeps at most, for jobs that are delivered again.
const JOURNAL_BYTES: u64 = 256 * 1024 * 1024;
/// How often the pause file is looked for.
const PAUSE_CHECK: Duration = Duration::from_secs(1);

/// A worker program with a name and a version of its own, which `--help` and `--version` print.
///
/// ```no_run
/// use postern_worker::{Add, Worker};
///
/// fn main() -> std::process::ExitCode {
///     Worker::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")).on("add", Add).main()
/// }
/// ```
pub struct Worker {
    name: &'static str,
    version: &'static str,
    registry: Registry,
}

/// Runs a worker with these handlers, under the name and version of `postern-worker`. [`Worker::main`] does
/// the same under a name of one's own.
pub fn main(registry: Registry) -> ExitCode {
    Worker { registry, ..Worker::new("postern-worker", env!("CARGO_PKG_VERSION")) }.main()
}

impl Worker {
    /// A worker without handlers. Both arguments usually come from `env!`, as in the example above.
    pub fn new(name: &'static str, version: &'static str) -> Self {
        Self { name, version, registry: Registry::new() }
    }

    /// Lets `handler` run the jobs of this kind, instead of the handler that did so before.
    #[must_use]
    pub fn on<H: Handler>(self, kind: impl Into<String>, handler: H) -> Self {
        Self { registry: self.registry.on(kind, handler), ..self }
    }

    /// Reads the command line and runs until SIGTERM or SIGINT. Logs are JSON lines on standard output.
    ///
    /// The exit status is 0 after a signal, a successful `doctor` or `enroll`, 1 when the worker cannot continue, and 2
    /// when its configuration cannot be used.
    pub fn main(self) -> ExitCode {
        let line = self.command_line();
        if let Some(Command::Enroll(options)) = &line.command {
            return self.enroll(options);
        }
        let only_doctor = line.check || matches!(line.command, Some(Command::Doctor(_)));
        let config = match Config::load(&line) {
            Ok(config) => config,
            Err(error) => return self.fail(2, &error.to_string()),
        };
        // Two threads: heartbeats and MQTT continue while one of them is busy.
        let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
        {
            Ok(runtime) => runtime,
            Err(error) => return self.fail(1, &error.to_string()),
        };

        if only_doctor {
            return match runtime.block_on(doctor(&config, &mut std::io::stdout())) {
                Ok(true) => ExitCode::SUCCESS,
                Ok(false) => ExitCode::from(1),
                Err(error) => self.fail(1, &error.to_string()),
            };
        }
        start_logging(config.log_level);
        let name = self.name;
        let registry = match handlers::register(self.registry, &config.handlers) {
            Ok(registry) => registry,
            Err(error) => return fail(name, 2, &error.to_string()),
        };
        match runtime.block_on(work(&config, registry, self.version)) {
            Ok(Stopped::Requested) => {
                tracing::info!("stopped");
                ExitCode::SUCCESS
            }
            Ok(stopped) => fail(name, 1, &reason(&stopped)),
            Err(error) => fail(name, 1, &error.to_string()),
        }
    }

    /// Parses the arguments of the process. Exits on `--help`, on `--version` and on a wrong option.
    fn command_line(&self) -> CommandLine {
        let command = CommandLine::command().name(self.name).version(self.version);
        CommandLine::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
    }

    #[cfg(unix)]
    fn enroll(&self, options: &EnrollOptions) -> ExitCode {
        match enroll(options, &mut std::io::stdout()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => self.fail(1, &error.to_string()),
        }
    }

    /// The swap of the symbolic link `current` that makes a renewal atomic exists on Unix only.
    #[cfg(not(unix))]
    fn enroll(&self, _: &EnrollOptions) -> ExitCode {
        self.fail(1, "enroll does not work on this system: enrol on a Unix machine, and copy the identity")
    }

    fn fail(&self, status: u8, why: &str) -> ExitCode {
        fail(self.name, status, why)
    }
}

/// The reason for which a worker ended, as a message to the operator.
fn reason(stopped: &Stopped) -> String {
    match stopped {
        Stopped::Requested => "stopped".into(),
        Stopped::SubscriptionRefused(reason) => reason.clone(),
        Stopped::LinkEnded => "the MQTT client has ended unexpectedly; see the log".into(),
        Stopped::AllSlotsStuck(slots) => format!(
            "all {slots} slots are held by handlers that did not end after their deadline; the log names them"
        ),
    }
}

async fn work(config: &Config, registry: Registry, version: &str) -> Result<Stopped, WorkError> {
    let (stop, health) = (CancellationToken::new(), Health::new());
    stop_on_signal(stop.clone())?;

    // Before the journal is opened: a worker that waits for its disk says so.
    if let Some(address) = config.status_address {
        status::serve(address, health.clone()).await.map_err(|error| WorkError::Status { address, error })?;
    }
    #[cfg(unix)]
    tokio::spawn(service::report(health.clone(), stop.clone()));

    let Some((journal, recovered)) = open_journal(config, &health, &stop).await? else {
        return Ok(Stopped::Requested);
    };
    let pause = Pause::new(&config.state_dir, health.clone());
    pause_on_signal(pause.clone())?;
    let concurrency = concurrency(config);
    let threads = Threads::new(concurrency)?;

    let about = about(config, &registry, version);
    let will = about.clone();
    let (link, inbox) = Mqtt::connect_with_will(config, move || will.will())?;
    follow_connection(link.connected(), health.clone());
    tracing::info!(
        client_id = config.client_id,
        topic = config.job_filter(),
        kinds = about.kinds.join(", "),
        concurrency,
        "worker started"
    );
    let engine = Engine {
        link,
        registry,
        default_kind: config.default_kind.clone(),
        answer_topic: config.answer_topic.clone(),
        progress_topic: config.progress_topic.clone(),
        about,
        concurrency,
        max_jobs: config.max_jobs,
        drain: config.drain,
        threads,
        state_dir: config.state_dir.clone(),
        journal,
        claims: ClaimOptions::new(config)?,
        pause,
        health,
    };
    Ok(engine.run(inbox, recovered, stop).await)
}

/// How many jobs run at a time: what a command has set, else what is configured.
fn concurrency(config: &Config) -> usize {
    match concurrency::remembered(&config.state_dir) {
        Some(concurrency) => {
            tracing::info!(
                concurrency,
                configured = config.concurrency,
                "the concurrency was set by a command"
            );
            concurrency
        }
        None => config.concurrency,
    }
}

fn about(config: &Config, registry: &Registry, version: &str) -> About {
    About {
        worker: config.client_id.clone(),
        version: version.to_owned(),
        kinds: registry.kinds().map(str::to_owned).collect(),
        group: config.group.clone(),
        certificate: Some(config.cert.clone()),
        topic: config.presence_topic.clone(),
        started_at: Timestamp::now(),
    }
}

/// Opens the journal. A disk without room, or a file that needs repair, is waited for: the jobs stay with the
/// broker meanwhile. `None` if the worker is stopped first.
async fn open_journal(
    config: &Config,
    health: &Health,
    stop: &CancellationToken,
) -> Result<Option<(Journal, Recovered)>, JournalError> {
    let retention = Retention { age: config.remember_answers, bytes: JOURNAL_BYTES };
    let mut backoff = Backoff::default();
    loop {
        let error = match Journal::open(&config.state_dir, retention, health.clone()) {
            Ok(opened) => {
                health.set_journal_problem(None);
                return Ok(Some(opened));
            }
            Err(error) if error.may_pass() => error,
            Err(error) => return Err(error),
        };

        let wait = backoff.next();
        health.set_journal_problem(Some(error.to_string()));
        tracing::error!(retry_in = ?wait, "the journal cannot be opened, so that no job is accepted: {error}");
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled() => return Ok(None),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum WorkError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("the status address {address} cannot be used: {error}")]
    Status { address: SocketAddr, error: std::io::Error },
    #[error("the operating system refused a thread or a signal handler: {0}")]
    Process(#[from] std::io::Error),
}

/// Keeps the worker's health informed whether the broker has accepted the connection.
fn follow_connection(mut connected: watch::Receiver<bool>, health: Health) {
    tokio::spawn(async move {
        loop {
            health.set_connected(*connected.borrow_and_update());
            if connected.changed().await.is_err() {
                return;
            }
        }
    });
}

/// Pauses and resumes the worker on request. The file in the state directory is read again every second, because an
/// operator may create or remove it by hand.
fn pause_on_signal(pause: Pause) -> std::io::Result<()> {
    let mut requests = PauseRequests::new()?;
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(PAUSE_CHECK);
        loop {
            let set = tokio::select! {
                paused = requests.next() => pause.set(paused),
                _ = ticks.tick() => {
                    pause.refresh();
                    Ok(())
                }
            };
            if let Err(error) = set {
                tracing::error!("the pause cannot be changed: {error}");
            }
        }
    });
    Ok(())
}

/// The first request stops the worker in good order, the second one ends the process at once.
fn stop_on_signal(stop: CancellationToken) -> std::io::Result<()> {
    let mut requests = StopRequests::new()?;
    tokio::spawn(async move {
        for _ in 0..2 {
            requests.next().await;
            if stop.is_cancelled() {
                std::process::exit(1);
            }
            stop.cancel();
        }
    });
    Ok(())
}

fn start_logging(level: LevelFilter) {
    tracing_subscriber::registry()
        .with(tracing_subscriber::fmt::layer().json().flatten_event(true))
        .with(log_levels(level))
        .init();
}

/// The given level for everything but the MQTT client, TLS and the clients of databases: their lines below `WARN` may
/// contain packets, and packets contain task tokens and payloads.
fn log_levels(level: LevelFilter) -> Targets {
    let quiet = level.min(LevelFilter::WARN);
    ["mysql_async", "rumqttc", "rustls", "tokio_postgres", "tokio_rustls"]
        .into_iter()
        .fold(Targets::new().with_default(level), |levels, target| levels.with_target(target, quiet))
}

#[expect(clippy::print_stderr, reason = "the reason of an exit belongs on standard error")]
fn fail(name: &str, status: u8, why: &str) -> ExitCode {
    eprintln!("{name}: {why}");
    ExitCode::from(status)
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn only_the_mqtt_and_tls_crates_are_quieter_than_the_given_level() {
        let levels = log_levels(LevelFilter::DEBUG);
        assert!(levels.would_enable("postern_worker::engine", &Level::DEBUG));
        assert!(levels.would_enable("a_users_own_handler", &Level::INFO));
        assert!(levels.would_enable("rumqttc::state", &Level::WARN));
        assert!(!levels.would_enable("rumqttc::state", &Level::INFO));
        assert!(!levels.would_enable("rustls::client", &Level::DEBUG));
    }

    #[test]
    fn a_worker_prints_its_own_version() {
        let command = CommandLine::command().name("mine").version("7.1.0");
        assert_eq!(command.render_version(), "mine 7.1.0\n");
    }
}
