//! One connection to the broker, from TCP to its end.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use postern_types::Topic;
use rumqttc::mqttbytes::v5::{ConnAck, ConnectReturnCode, LastWill, LastWillProperties, Packet, Publish};
use rumqttc::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, Outgoing as Sent, QoS};
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
use crate::link::{ControlKind, ControlMessage, Incoming};

/// Why a connection has ended.
pub(super) enum End {
    /// The link was closed.
    Closed,
    /// The certificate was renewed: the next connection uses the new one.
    NewIdentity,
    /// The broker refused the connection because the policy does not allow it. The text explains why.
    NotAuthorized(String),
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
    pub(super) control: &'a mpsc::Sender<ControlMessage<Receipt>>,
    /// Whether this process has subscribed before. It does so at least once, though the broker has kept the session:
    /// the topic may be another one since the last process.
    pub(super) subscribed: &'a mut bool,
    /// What the broker publishes when the connection falls.
    pub(super) will: Option<Bytes>,
}

impl Connection<'_> {
    /// Connects and works until the connection ends.
    pub(super) async fn run(self, identity: &mut Identity) -> End {
        let progress = Arc::new(Progress::default());
        let mut options = watched_options(self.config, identity, &progress);
        if let Some(will) = &self.will {
            options.set_last_will(last_will(&self.config.presence_topic, will.clone()));
        }
        let (client, mut events) = AsyncClient::builder(options).unbounded().build();
        let (accepted, connack) = oneshot::channel();
        let (deliver, delivered) = mpsc::channel(2 * IN_FLIGHT);
        let (deliver_control, delivered_control) = mpsc::channel(2 * IN_FLIGHT);
        let (shared, incoming, control) = (self.shared, self.incoming, self.control);
        shared.open(client.clone());

        let endpoint = self.config.endpoint.to_string();
        let keep_alive = Duration::from_secs(self.config.keep_alive_seconds.into());
        let driver = Driver {
            config: self.config,
            shared,
            progress: &progress,
            accepted: Some(accepted),
            deliver,
            deliver_control,
        };
        let end = tokio::select! {
            end = driver.run(&mut events) => end,
            stall = progress.stalled(keep_alive) => End::Failed(format!("{stall}: reconnecting to {endpoint}")),
            end = pass_on(delivered, incoming) => end,
            end = pass_on(delivered_control, control) => end,
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
        mut self,
        client: &AsyncClient,
        connack: oneshot::Receiver<ConnAck>,
        progress: &Arc<Progress>,
    ) -> End {
        let Ok(connack) = connack.await else { return pending().await };
        tracing::info!(endpoint = %self.config.endpoint, session = connack.session_present, "connected");

        let kept = connack.session_present && *self.subscribed;
        if !kept && let Err(end) = self.subscribe_to_jobs(client).await {
            return end;
        }
        if kept && self.shared.is_controlled() {
            self.shared.set_controlled(true);
        } else if let Err(end) = self.subscribe_to_control(client).await {
            return end;
        }

        let max_packet = connack.properties.as_ref().and_then(|properties| properties.max_packet_size);
        let max_packet = max_packet.map_or(usize::MAX, |bytes| bytes as usize);
        tokio::join!(
            publish_all(client, &self.shared.outgoing, progress, max_packet),
            self.shared.settle(connack.session_present),
        );
        pending().await
    }

    async fn subscribe_to_jobs(&mut self, client: &AsyncClient) -> Result<(), End> {
        let filter = self.config.job_filter();
        match subscribe_in_time(client, &filter).await? {
            Ok(()) => {
                tracing::info!(topic = filter, "subscribed");
                *self.subscribed = true;
            }
            Err(reason) => {
                let _ = self.incoming.send(Incoming::SubscriptionRefused(reason)).await;
            }
        }
        Ok(())
    }

    /// Subscribes to cancelled jobs and to commands. A policy of an earlier version does not allow it: then the worker
    /// goes on without.
    async fn subscribe_to_control(&self, client: &AsyncClient) -> Result<(), End> {
        let topics = [&self.config.cancel_topic, &self.config.command_topic];
        let mut refused = None;
        for topic in topics {
            if let Err(reason) = subscribe_in_time(client, topic.as_str()).await? {
                refused = Some(reason);
            }
        }

        match &refused {
            None => {
                tracing::info!(cancel = %topics[0], command = %topics[1], "control topics subscribed");
            }
            Some(reason) => tracing::warn!(
                "the worker goes on without cancellation, commands, progress and presence, which need the worker policy of \
                 this version: {reason}"
            ),
        }
        self.shared.set_controlled(refused.is_none());
        Ok(())
    }
}

/// Subscribes, or returns the broker's reason for a refusal. The outer error ends the connection.
async fn subscribe_in_time(client: &AsyncClient, filter: &str) -> Result<Result<(), String>, End> {
    match timeout(SUBACK_TIMEOUT, subscribe(client, filter)).await {
        Ok(Ok(())) => Ok(Ok(())),
        Ok(Err(NotSubscribed::Refused(reason))) => Ok(Err(reason)),
        // The driver sees the end of the connection too, and knows why.
        Ok(Err(NotSubscribed::Disconnected)) => pending().await,
        Err(_) => Err(End::Failed(format!("the broker has not answered the subscription to {filter}"))),
    }
}

/// The will: retained, so that whoever asks later learns of it too.
fn last_will(topic: &Topic, payload: Bytes) -> LastWill {
    let properties = LastWillProperties {
        delay_interval: None,
        payload_format_indicator: None,
        message_expiry_interval: None,
        content_type: Some("application/json".into()),
        response_topic: None,
        correlation_data: None,
        user_properties: Vec::new(),
    };
    LastWill::new(topic.as_str(), payload, QoS::AtLeastOnce, true, Some(properties))
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
    config: &'a Config,
    shared: &'a Shared,
    progress: &'a Progress,
    accepted: Option<oneshot::Sender<ConnAck>>,
    deliver: mpsc::Sender<Incoming<Receipt>>,
    deliver_control: mpsc::Sender<ControlMessage<Receipt>>,
}

impl Driver<'_> {
    async fn run(mut self, events: &mut EventLoop) -> End {
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
                Err(error) => {
                    let reason = explain(&error, self.config.proxy.as_ref());
                    let refused =
                        matches!(error, ConnectionError::ConnectionRefused(ConnectReturnCode::NotAuthorized));
                    return if refused { End::NotAuthorized(reason) } else { End::Failed(reason) };
                }
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
            Packet::Publish(publish) => self.deliver(publish)?,
            _ => {}
        }
        Ok(())
    }

    /// Sorts a message by its topic.
    fn deliver(&self, publish: Publish) -> Result<(), String> {
        let Some(receipt) = self.shared.delivered(&publish) else {
            tracing::debug!(packet_id = publish.pkid, "redelivered before its acknowledgement");
            return Ok(());
        };
        let kind = self.kind(&publish.topic);
        let payload = publish.payload;

        let delivered = match kind {
            None => self.deliver.try_send(Incoming::Message { payload, receipt }).is_ok(),
            Some(kind) => {
                let seconds = publish.properties.and_then(|properties| properties.message_expiry_interval);
                let expires_in = seconds.map(|seconds| Duration::from_secs(seconds.into()));
                let message = ControlMessage { kind, payload, expires_in, receipt };
                self.deliver_control.try_send(message).is_ok()
            }
        };
        if delivered {
            return Ok(());
        }
        Err(format!(
            "the broker sent {} messages without waiting for acknowledgements; it may send {IN_FLIGHT}",
            self.shared.owed()
        ))
    }

    /// The kind of the control topic; `None` for the job topic.
    fn kind(&self, topic: &[u8]) -> Option<ControlKind> {
        let is = |control: &Topic| control.as_str().as_bytes() == topic;
        if is(&self.config.cancel_topic) {
            Some(ControlKind::Cancel)
        } else if is(&self.config.command_topic) {
            Some(ControlKind::Command)
        } else {
            None
        }
    }
}

/// Passes messages on to the engine, as fast as it takes them.
async fn pass_on<T>(mut delivered: mpsc::Receiver<T>, incoming: &mpsc::Sender<T>) -> End {
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
