//! The operating system's requests to stop, to pause and to resume. Unix sends signals. Windows sends console events,
//! which can only ask a process to stop. What follows from a request is decided elsewhere.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use unix::{PauseRequests, StopRequests};
#[cfg(windows)]
pub(crate) use windows::{PauseRequests, StopRequests};
