//! The worker's certificate and key, and their renewal while the worker runs.
//!
//! The files are looked at every few seconds. A changed pair takes effect when the certificate is valid and the key
//! belongs to it; until then the worker keeps the pair that it has. Nothing is written here.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use rustls::ClientConfig;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::config::Config;
use crate::tls::{self, TlsError};

/// The current certificate and key, ready for a connection.
pub(crate) struct Identity {
    current: watch::Receiver<Arc<ClientConfig>>,
}

/// How often the files are looked at.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// Days before the end of a certificate at which the worker warns.
const WARNINGS: [i64; 3] = [1, 7, 30];

impl Identity {
    /// Loads the configured files and watches them from then on.
    pub(crate) fn load(config: &Config) -> Result<Self, TlsError> {
        let stamp = Stamp::of(config);
        let (tls, valid_until) = load(config)?;
        let (sender, current) = watch::channel(tls);

        let watcher = Watcher { config: config.clone(), current: sender, stamp, valid_until, warned: None };
        tokio::spawn(watcher.run());
        Ok(Self { current })
    }

    /// The pair for the next connection. [`changed`](Self::changed) then waits for a later one.
    pub(crate) fn current(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.current.borrow())
    }

    /// Waits for another pair than the one that was current at the last call.
    pub(crate) async fn changed(&mut self) {
        if self.current.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

fn load(config: &Config) -> Result<(Arc<ClientConfig>, Timestamp), TlsError> {
    let valid_until = tls::valid_until(&config.cert)?;
    Ok((tls::client_config(config)?, valid_until))
}

/// Looks at the files and replaces the current pair.
struct Watcher {
    config: Config,
    current: watch::Sender<Arc<ClientConfig>>,
    stamp: Stamp,
    valid_until: Timestamp,
    /// The last warning given, in days before the end.
    warned: Option<i64>,
}

impl Watcher {
    async fn run(mut self) {
        while !self.current.is_closed() {
            self.warn_of_the_end(Timestamp::now());
            sleep(CHECK_INTERVAL).await;
            self.reload();
        }
    }

    fn reload(&mut self) {
        let stamp = Stamp::of(&self.config);
        if stamp == self.stamp {
            return;
        }
        self.stamp = stamp;

        match load(&self.config) {
            Ok((tls, valid_until)) => {
                tracing::info!(%valid_until, "the certificate was renewed: reconnecting with the new one");
                self.valid_until = valid_until;
                self.current.send_replace(tls);
            }
            Err(error) => {
                tracing::warn!(
                    "the changed certificate is not used, the worker keeps the one it has: {error}"
                );
            }
        }
    }

    fn warn_of_the_end(&mut self, now: Timestamp) {
        let warning = warning(now, self.valid_until);
        if warning == self.warned {
            return;
        }
        self.warned = warning;
        if warning.is_some() {
            let hours_left = hours_between(now, self.valid_until);
            tracing::warn!(
                valid_until = %self.valid_until,
                hours_left,
                "the worker's certificate expires soon: renew it with `postern-worker enroll`"
            );
        }
    }
}

/// Which warning is due, in days before the end.
fn warning(now: Timestamp, valid_until: Timestamp) -> Option<i64> {
    let hours = hours_between(now, valid_until);
    WARNINGS.into_iter().find(|days| hours < days * 24)
}

fn hours_between(now: Timestamp, then: Timestamp) -> i64 {
    then.duration_since(now).as_hours()
}

/// Tells a changed file from an unchanged one without reading it.
#[derive(Debug, PartialEq, Eq)]
struct Stamp(Vec<Option<(SystemTime, u64, u64)>>);

impl Stamp {
    fn of(config: &Config) -> Self {
        let files = [Some(&config.cert), Some(&config.key), config.ca.as_ref()];
        Self(files.into_iter().flatten().map(|path| stamp(path)).collect())
    }
}

fn stamp(path: &Path) -> Option<(SystemTime, u64, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let inode = 0;
    Some((metadata.modified().ok()?, metadata.len(), inode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_come_thirty_seven_and_one_day_before_the_end() {
        let end: Timestamp = "2026-12-31T00:00:00Z".parse().unwrap();
        for (now, expected) in [
            ("2026-11-30T00:00:00Z", None),
            ("2026-12-02T00:00:00Z", Some(30)),
            ("2026-12-23T23:00:00Z", Some(30)),
            ("2026-12-25T00:00:00Z", Some(7)),
            ("2026-12-30T01:00:00Z", Some(1)),
            ("2027-01-01T00:00:00Z", Some(1)),
        ] {
            assert_eq!(warning(now.parse().unwrap(), end), expected, "{now}");
        }
    }
}
