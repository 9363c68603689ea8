//! Logs: one JSON line an event, with the request id of the invocation.
//!
//! A line contains job ids, names, sizes and reasons, and never a payload, a task token or a key.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Starts logging to standard output. `crate_name` is the caller's `env!("CARGO_CRATE_NAME")`.
///
/// `LOG_LEVEL` gives the level, or `AWS_LAMBDA_LOG_LEVEL`, which Lambda sets from the function's logging configuration.
/// The default is `INFO`. Levels below `INFO` apply to the caller's crate and to this one only: at `DEBUG` the AWS SDK and the HTTP
/// client print requests, and with them the task tokens.
///
/// # Panics
/// When it is called twice in one process.
pub fn init(crate_name: &'static str) {
    let level =
        ["LOG_LEVEL", "AWS_LAMBDA_LOG_LEVEL"].iter().find_map(|name| std::env::var(name).ok()?.parse().ok());
    let targets = targets(crate_name, level.unwrap_or(LevelFilter::INFO));

    let lines = tracing_subscriber::fmt::layer().json().flatten_event(true).with_span_list(false);
    tracing_subscriber::registry().with(lines.with_filter(targets)).init();
}

fn targets(crate_name: &'static str, level: LevelFilter) -> Targets {
    Targets::new()
        .with_default(level.min(LevelFilter::INFO))
        .with_targets([(crate_name, level), (env!("CARGO_CRATE_NAME"), level)])
        // This layer repeats the line that `serve` has logged for the same error.
        .with_target("lambda_runtime::layers::panic", LevelFilter::OFF)
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn only_the_callers_crate_and_this_one_log_below_info() {
        let targets = targets("dispatcher", LevelFilter::DEBUG);
        for ours in ["dispatcher", "dispatcher::handler", "postern_runtime"] {
            assert!(targets.would_enable(ours, &Level::DEBUG), "{ours}");
        }
        for other in ["aws_smithy_runtime", "hyper", "lambda_runtime"] {
            assert!(!targets.would_enable(other, &Level::DEBUG), "{other}");
            assert!(targets.would_enable(other, &Level::INFO), "{other}");
        }
    }

    #[test]
    fn the_level_applies_to_every_crate_where_it_is_above_info() {
        let targets = targets("dispatcher", LevelFilter::WARN);
        assert!(!targets.would_enable("dispatcher", &Level::INFO));
        assert!(!targets.would_enable("hyper", &Level::INFO));
        assert!(!targets.would_enable("lambda_runtime::layers::panic", &Level::ERROR));
    }
}
