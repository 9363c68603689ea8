//! SIGTERM and SIGINT stop the worker, SIGUSR1 pauses it, and SIGUSR2 resumes it.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The requests to stop.
pub(crate) struct StopRequests {
    terminate: Signal,
    interrupt: Signal,
}

impl StopRequests {
    pub(crate) fn new() -> io::Result<Self> {
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(Self { terminate, interrupt })
    }

    /// Waits for the next request.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The requests to pause and to resume.
pub(crate) struct PauseRequests {
    pause: Signal,
    resume: Signal,
}

impl PauseRequests {
    pub(crate) fn new() -> io::Result<Self> {
        let (pause, resume) = (signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?);
        Ok(Self { pause, resume })
    }

    /// Waits for the next request. `true` means pause, `false` means resume.
    pub(crate) async fn next(&mut self) -> bool {
        tokio::select! {
            _ = self.pause.recv() => true,
            _ = self.resume.recv() => false,
        }
    }
}
