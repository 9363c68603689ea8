//! The socket under TLS: passes everything through and reports whether the network takes what is written.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::progress::Progress;

/// A stream whose writes are watched.
pub(super) struct Socket<S> {
    stream: S,
    progress: Arc<Progress>,
}

impl<S> Socket<S> {
    pub(super) fn new(stream: S, progress: Arc<Progress>) -> Self {
        Self { stream, progress }
    }

    fn report<T>(&self, poll: &Poll<io::Result<T>>) {
        match poll {
            Poll::Pending => self.progress.write_blocked(),
            Poll::Ready(_) => self.progress.written(),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(context, buffer);
        self.report(&poll);
        poll
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncWriteExt as _;

    use super::*;
    use crate::mqtt::progress::Stall;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_stops_reading_stalls_the_connection() {
        let (near, _far) = tokio::io::duplex(64);
        let progress = Arc::new(Progress::default());
        let mut socket = Socket::new(near, Arc::clone(&progress));
        let writing = tokio::spawn(async move { socket.write_all(&[0; 1_000]).await });

        let stall = progress.stalled(Duration::from_secs(10)).await;
        assert!(matches!(stall, Stall::WriteBlocked(_)));
        writing.abort();
    }
}
