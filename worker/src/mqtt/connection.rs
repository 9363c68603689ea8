//! One connection to the broker, from TCP to its end.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::mqttbytes::v5::{ConnAck, Packet};
use rumqttc::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, Outgoing as Sent};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::options::{IN_FLIGHT, options};
use super::progress::Progress;
use super::publisher::publish_all;
use super::receipts::Receipt;
use super::session::{NotSubscribed, subscribe};
use super::shared::Shared;
use super::socket::Socket;
use crate::config::Config;
use crate::dial::dial;
use crate::explain::explain;
use crate::identity::Identity;
use crate::link::Incoming;

/// Why a connection has ended.
pub(super) enum End {
    /// The link was closed.
    Closed,
    /// The certificate was renewed: the next connection uses the new one.
    NewIdentity,
    /// The connection could not be made, or fell. The text explains why.
    Failed(String),
}

/// How long the broker may take for a SUBACK.
const SUBACK_TIMEOUT: Duration = Duration::from_secs(30);
/// How long messages in flight may take to be acknowledged before an intended disconnection.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an intended disconnection may take in all.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// What a connection works with.
pub(super) struct Connection<'a> {
    pub(super) config: &'a Config,
    pub(super) shared: &'a Shared,
    pub(super) incoming: &'a mpsc::Sender<Incoming<Receipt>>,
    /// Whether this process has subscribed before. It does so at least once, though the broker has kept the session:
    /// the topic may be another one since the last process.
    pub(super) subscribed: &'a mut bool,
}

impl Connection<'_> {
    /// Connects and works until the connection ends.
    pub(super) async fn run(self, identity: &mut Identity) -> End {
        let progress = Arc::new(Progress::default());
        let options = watched_options(self.config, identity, &progress);
        let (client, mut events) = AsyncClient::builder(options).unbounded().build();
        let (accepted, connack) = oneshot::channel();
        let (deliver, delivered) = mpsc::channel(2 * IN_FLIGHT);
        let (shared, incoming) = (self.shared, self.incoming);
        shared.open(client.clone());

        let endpoint = self.config.endpoint.to_string();
        let keep_alive = Duration::from_secs(self.config.keep_alive_seconds.into());
        let driver = Driver { shared, progress: &progress, accepted: Some(accepted), deliver };
        let end = tokio::select! {
            end = driver.run(&mut events, self.config) => end,
            stall = progress.stalled(keep_alive) => End::Failed(format!("{stall}: reconnecting to {endpoint}")),
            end = pass_on(delivered, incoming) => end,
            end = self.work(&client, connack, &progress) => end,
            end = disconnect(&client, shared, identity) => end,
        };

        shared.fall();
        // The client reports an intended disconnection without its reason.
        match end {
            End::Closed if !shared.close.is_cancelled() && !incoming.is_closed() => End::NewIdentity,
            end => end,
        }
    }

    /// Subscribes if need be, then publishes for as long as the connection lasts.
    async fn work(
        self,
        client: &AsyncClient,
        connack: oneshot::Receiver<ConnAck>,
        progress: &Arc<Progress>,
    ) -> End {
        let Ok(connack) = connack.await else { return pending().await };
        tracing::info!(endpoint = %self.config.endpoint, session = connack.session_present, "connected");

        if !connack.session_present || !*self.subscribed {
            let filter = self.config.job_filter();
            match timeout(SUBACK_TIMEOUT, subscribe(client, &filter)).await {
                Ok(Ok(())) => {
                    tracing::info!(topic = filter, "subscribed");
                    *self.subscribed = true;
                }
                Ok(Err(NotSubscribed::Refused(reason))) => {
                    let _ = self.incoming.send(Incoming::SubscriptionRefused(reason)).await;
                }
                // The driver sees the end of the connection too, and knows why.
                Ok(Err(NotSubscribed::Disconnected)) => return pending().await,
                Err(_) => {
                    return End::Failed(format!("the broker has not answered the subscription to {filter}"));
                }
            }
        }

        let max_packet = connack.properties.and_then(|properties| properties.max_packet_size);
        let max_packet = max_packet.map_or(usize::MAX, |bytes| bytes as usize);
        publish_all(client, &self.shared.outgoing, progress, max_packet).await;
        pending().await
    }
}

/// The connection's options, with a socket that is dialled by the worker and reports its progress.
fn watched_options(config: &Config, identity: &Identity, progress: &Arc<Progress>) -> MqttOptions {
    let mut options = options(config, identity.current());
    let (endpoint, proxy, progress) = (config.endpoint.clone(), config.proxy.clone(), Arc::clone(progress));

    options.set_socket_connector(move |_, _| {
        let (endpoint, proxy, progress) = (endpoint.clone(), proxy.clone(), Arc::clone(&progress));
        async move {
            let stream =
                dial(&endpoint.host, endpoint.port, proxy.as_ref()).await.map_err(io::Error::other)?;
            Ok(Socket::new(stream, progress))
        }
    });
    options
}

/// Polls the client and sorts its events.
struct Driver<'a> {
    shared: &'a Shared,
    progress: &'a Progress,
    accepted: Option<oneshot::Sender<ConnAck>>,
    deliver: mpsc::Sender<Incoming<Receipt>>,
}

impl Driver<'_> {
    async fn run(mut self, events: &mut EventLoop, config: &Config) -> End {
        loop {
            match events.poll().await {
                Ok(Event::Incoming(packet)) => {
                    self.progress.received();
                    if let Err(reason) = self.received(packet) {
                        return End::Failed(reason);
                    }
                }
                Ok(Event::Outgoing(Sent::PubAck(packet_id))) => self.shared.acknowledged(packet_id),
                Ok(Event::Outgoing(Sent::Publish(_) | Sent::Subscribe(_) | Sent::PingReq)) => {
                    self.progress.sent();
                }
                Ok(_) => {}
                Err(ConnectionError::RequestsDone | ConnectionError::DisconnectTimeout) => {
                    return End::Closed;
                }
                Err(error) => return End::Failed(explain(&error, config.proxy.as_ref())),
            }
        }
    }

    fn received(&mut self, packet: Packet) -> Result<(), String> {
        match packet {
            Packet::ConnAck(connack) => {
                self.shared.accepted();
                if let Some(accepted) = self.accepted.take() {
                    let _ = accepted.send(connack);
                }
            }
            Packet::Publish(publish) => {
                let Some(receipt) = self.shared.delivered(&publish) else {
                    tracing::debug!(packet_id = publish.pkid, "redelivered before its acknowledgement");
                    return Ok(());
                };
                let message = Incoming::Message { payload: publish.payload, receipt };
                if self.deliver.try_send(message).is_err() {
                    return Err(format!(
                        "the broker sent {} messages without waiting for acknowledgements; it may send {IN_FLIGHT}",
                        self.shared.owed()
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Passes messages on to the engine, as fast as it takes them.
async fn pass_on(
    mut delivered: mpsc::Receiver<Incoming<Receipt>>,
    incoming: &mpsc::Sender<Incoming<Receipt>>,
) -> End {
    while let Some(message) = delivered.recv().await {
        if incoming.send(message).await.is_err() {
            return End::Closed;
        }
    }
    pending().await
}

/// Waits until the link is closed or has a new identity. Then disconnects, if the broker lets it.
async fn disconnect(client: &AsyncClient, shared: &Shared, identity: &mut Identity) -> End {
    let end = tokio::select! {
        () = shared.close.cancelled() => End::Closed,
        () = identity.changed() => End::NewIdentity,
    };

    if shared.is_connected() {
        let _ = client.try_disconnect_with_timeout(DRAIN_TIMEOUT);
        sleep(DISCONNECT_TIMEOUT).await;
    }
    end
}
