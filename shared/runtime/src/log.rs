//! Logs: JSON, one line an event, with the request id of the invocation. What they hold is chosen word by
//! word: job ids, names, sizes, reasons; never a payload, a task token or a key.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Starts logging to standard output, at the level of `AWS_LAMBDA_LOG_LEVEL` (Lambda's own setting; default
/// `INFO`). Below `INFO` that is for Postern's own lines only: at `DEBUG` the AWS SDK and the HTTP client
/// print requests, with the task tokens in them.
pub fn init() {
    let level = std::env::var("AWS_LAMBDA_LOG_LEVEL").ok().and_then(|level| level.parse().ok());
    let level = level.unwrap_or(LevelFilter::INFO);
    let others = level.min(LevelFilter::INFO);
    let ours = OURS.iter().map(|target| (*target, level));
    // It says again what `serve` has said.
    let said_twice = [("lambda_runtime::layers::panic", LevelFilter::OFF)];
    let lines = tracing_subscriber::fmt::layer().json().flatten_event(true).with_span_list(false);
    tracing_subscriber::registry()
        .with(
            lines
                .with_filter(Targets::new().with_default(others).with_targets(ours).with_targets(said_twice)),
        )
        .init();
}

/// The crates whose lines are written with care.
const OURS: [&str; 9] = [
    "approval",
    "dispatcher",
    "grip",
    "grip_echo",
    "msk_to_s3",
    "postern",
    "postern_runtime",
    "step_counter",
    "task_token_done",
];
