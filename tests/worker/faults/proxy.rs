//! A TCP proxy between workers and broker that can cut connections, or let nothing pass.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How the proxy treats bytes and connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mode {
    /// Raised by each cut: connections of an earlier generation are closed.
    generation: u64,
    /// Bytes wait, in both directions.
    partitioned: bool,
}

/// The proxy. It ends when dropped.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    mode: watch::Sender<Mode>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Listens on loopback and passes connections on to `broker`.
    pub(crate) async fn start(broker: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (mode, modes) = watch::channel(Mode { generation: 0, partitioned: false });
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(connect(client, broker, modes.clone()));
            }
        });
        Self { port, mode, task }
    }

    /// Closes every connection.
    pub(crate) fn cut(&self) {
        self.mode.send_modify(|mode| mode.generation += 1);
    }

    /// Lets nothing pass for `time`, then closes the connections, as a firewall does that forgot them.
    pub(crate) async fn partition(&self, time: Duration) {
        self.mode.send_modify(|mode| mode.partitioned = true);
        tokio::time::sleep(time).await;
        self.mode.send_modify(|mode| *mode = Mode { generation: mode.generation + 1, partitioned: false });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn connect(client: TcpStream, broker: SocketAddr, mut modes: watch::Receiver<Mode>) {
    let generation = modes.borrow().generation;
    let Ok(broker) = TcpStream::connect(broker).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_broker, to_broker) = broker.into_split();

    let cut = modes.clone();
    tokio::select! {
        () = pass(from_client, to_broker, cut.clone()) => {}
        () = pass(from_broker, to_client, cut) => {}
        _ = modes.wait_for(|mode| mode.generation > generation) => {}
    }
}

/// Copies bytes in one direction, except while partitioned.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut modes: watch::Receiver<Mode>) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
        if modes.wait_for(|mode| !mode.partitioned).await.is_err() {
            return;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
