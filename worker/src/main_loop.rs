use std::process::ExitCode;

use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::check::check;
use crate::config::{CommandLine, Settings};
use crate::{Engine, Mqtt, Registry, Stopped, TlsError, tls};

/// The `main` of a worker with these handlers: command line, logs (JSON lines on standard output), signals.
///
/// Exit status: 0 after a SIGTERM or SIGINT, or a `--check` in which all was well; 1 when the worker cannot
/// go on; 2 when its configuration cannot be used.
pub fn main(registry: Registry) -> ExitCode {
    let line = CommandLine::parse();
    let only_check = line.check;
    let settings = match line.settings() {
        Ok(settings) => settings,
        Err(error) => return fail(2, &error.to_string()),
    };
    // Two threads: heartbeats and MQTT go on while one of them is busy.
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(1, &error.to_string()),
    };
    if only_check {
        return match runtime.block_on(check(&settings, &mut std::io::stdout())) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(1),
            Err(error) => fail(1, &error.to_string()),
        };
    }
    start_logging(&settings);
    match runtime.block_on(work(&settings, registry)) {
        Ok(Stopped::Asked) => {
            tracing::info!("stopped");
            ExitCode::SUCCESS
        }
        Ok(Stopped::SubscriptionRefused(reason)) => fail(1, &reason),
        Err(error) => fail(1, &error.to_string()),
    }
}

async fn work(settings: &Settings, registry: Registry) -> Result<Stopped, WorkError> {
    tls::valid_until(&settings.cert)?;
    let stop = CancellationToken::new();
    stop_on_signal(stop.clone())?;
    let handlers = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(settings.concurrency)
        .thread_name("handler")
        .enable_all()
        .build()?;
    let (link, incoming) = Mqtt::connect(settings)?;
    let kinds = registry.kinds().collect::<Vec<_>>().join(", ");
    tracing::info!(client_id = settings.client_id, topic = %settings.job_topic, kinds, "worker started");
    let engine = Engine {
        link,
        registry,
        default_kind: settings.default_kind.clone(),
        answer_topic: settings.answer_topic.clone(),
        concurrency: settings.concurrency,
        drain: settings.drain,
        handlers: handlers.handle().clone(),
    };
    let stopped = engine.run(incoming, stop).await;
    // A handler that blocks on in spite of everything must not keep the process.
    handlers.shutdown_background();
    Ok(stopped)
}

#[derive(Debug, thiserror::Error)]
enum WorkError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the process cannot start what it needs: {0}")]
    Process(#[from] std::io::Error),
}

/// The first SIGTERM or SIGINT asks for a clean stop, the second one ends the process at once.
fn stop_on_signal(stop: CancellationToken) -> std::io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(async move {
        for _ in 0..2 {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if stop.is_cancelled() {
                std::process::exit(1);
            }
            stop.cancel();
        }
    });
    Ok(())
}

/// JSON lines. The MQTT client and TLS are not heard below `WARN`: their lines may hold packets.
fn start_logging(settings: &Settings) {
    let others = settings.log_level.min(tracing_subscriber::filter::LevelFilter::WARN);
    let levels = Targets::new().with_default(others).with_target("postern_worker", settings.log_level);
    tracing_subscriber::registry()
        .with(tracing_subscriber::fmt::layer().json().flatten_event(true))
        .with(levels)
        .init();
}

#[expect(clippy::print_stderr, reason = "the last word of a process goes to its standard error")]
fn fail(status: u8, why: &str) -> ExitCode {
    eprintln!("postern-worker: {why}");
    ExitCode::from(status)
}
