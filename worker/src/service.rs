//! Tells the service manager (systemd, `Type=notify`) how the worker is. Does nothing without `NOTIFY_SOCKET`.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

use crate::health::{Health, Problem};

/// Reports that the worker is ready when it has subscribed, that it is alive as often as the watchdog asks for it,
/// and that it is stopping once `stop` is cancelled.
///
/// A worker whose slots are all stuck no longer reports that it is alive, so that the service manager restarts it.
/// A disk that is full does not stop the reports: a restart would not help.
pub(crate) async fn report(health: Health, stop: CancellationToken) {
    let watchdog = sd_notify::watchdog_enabled();
    // Twice as often as asked for, as the manual of sd_watchdog_enabled recommends.
    let every = watchdog.map_or(Duration::from_secs(1), |timeout| timeout / 2).min(Duration::from_secs(1));
    let mut ready = false;

    loop {
        if !ready && health.is_connected() {
            ready = true;
            notify(NotifyState::Ready);
        }
        let stuck = health.problems().iter().any(|problem| matches!(problem, Problem::AllSlotsStuck(_)));
        if watchdog.is_some() && !stuck {
            notify(NotifyState::Watchdog);
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(every) => {}
        }
    }
    notify(NotifyState::Stopping);
}

fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!("the service manager cannot be notified: {error}");
    }
}
