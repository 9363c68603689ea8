//! Ctrl-C, a closed console and a shutdown of the machine stop the worker. Only the file pauses it.

use std::io;

use tokio::signal::windows::{CtrlC, CtrlClose, CtrlShutdown, ctrl_c, ctrl_close, ctrl_shutdown};

/// The requests to stop.
pub(crate) struct StopRequests {
    interrupt: CtrlC,
    close: CtrlClose,
    shutdown: CtrlShutdown,
}

impl StopRequests {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { interrupt: ctrl_c()?, close: ctrl_close()?, shutdown: ctrl_shutdown()? })
    }

    /// Waits for the next request.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.close.recv() => {}
            _ = self.shutdown.recv() => {}
        }
    }
}

/// The requests to pause and to resume, which Windows does not have.
pub(crate) struct PauseRequests;

impl PauseRequests {
    #[expect(clippy::unnecessary_wraps, reason = "the counterpart for Unix can fail")]
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self)
    }

    /// Never returns.
    pub(crate) async fn next(&mut self) -> bool {
        std::future::pending().await
    }
}
