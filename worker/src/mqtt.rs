use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use postern_types::Topic;
use postern_types::limits::IOT_PAYLOAD_BYTES;
use rumqttc::mqttbytes::v5::{Packet, PublishProperties, SubscribeReasonCode};
use rumqttc::{
    AckMode, AsyncClient, Broker, ConnectionError, Event, EventLoop, IncomingPacketSizeLimit, ManualAck,
    MqttOptions, PersistedAckMode, PersistedSession, PublishNoticeError, PublishOptions, QoS, SessionStore,
    SessionStoreError, SessionStoreKey, SubscribeNoticeError, TlsConfiguration, Transport,
};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::config::Config;
use crate::explain::{explain, explain_subscribe};
use crate::link::{Incoming, Link, Priority, PublishError};

/// A [`Link`] over MQTT 5 and mutual TLS: persistent session, manual acknowledgement, reconnects with backoff
/// and jitter, subscribes again when the broker has lost the session, starts before its broker does.
#[derive(Clone)]
pub struct Mqtt {
    client: AsyncClient,
    /// The broker's Maximum Packet Size. A larger packet would end the connection, and be sent again.
    max_packet: Arc<AtomicU32>,
    /// Cancelled when the event loop has ended.
    ended: CancellationToken,
}

/// Bytes of a PUBLISH beside its payload, at most: header, topic and properties.
const PACKET_OVERHEAD: usize = 1_024;

impl Mqtt {
    /// Starts to connect; what comes in comes in over the receiver.
    pub fn connect(
        settings: &Config,
    ) -> Result<(Self, mpsc::Receiver<Incoming<Option<ManualAck>>>), crate::TlsError> {
        let tls = crate::tls::client_config(config)?;
        let (client, events) = AsyncClient::builder(options(settings, tls)).capacity(100).build();
        let (sender, receiver) = mpsc::channel(200);
        let max_packet = Arc::new(AtomicU32::new(u32::MAX));
        let link = Self { client, max_packet, ended: CancellationToken::new() };
        let driver = Driver {
            link: link.clone(),
            endpoint: settings.endpoint.to_string(),
            filter: settings.job_filter(),
            subscribed: Arc::new(AtomicBool::new(false)),
            incoming: sender,
        };
        tokio::spawn(driver.run(events));
        Ok((link, receiver))
    }
}

/// The connection's options, for the worker and for `--check` alike.
pub(crate) fn options(settings: &Config, tls: Arc<rustls::ClientConfig>) -> MqttOptions {
    let broker = Broker::tcp(settings.endpoint.host.clone(), settings.endpoint.port);
    let mut options = MqttOptions::new(settings.client_id.clone(), broker);
    options
        .set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls)))
        .set_keep_alive(settings.keep_alive_seconds)
        .set_connect_timeout(Duration::from_secs(10))
        .set_clean_start(false)
        .set_session_expiry_interval(Some(settings.session_expiry_seconds))
        .set_session_store(NothingInFlight)
        .set_ack_mode(AckMode::Manual)
        // AWS IoT Core has 100 unacknowledged messages under way at most.
        .set_receive_maximum(Some(100))
        .set_incoming_packet_size_limit(IncomingPacketSizeLimit::Bytes(
            u32::try_from(IOT_PAYLOAD_BYTES + PACKET_OVERHEAD).unwrap_or(u32::MAX),
        ));
    options
}

impl Link for Mqtt {
    type Receipt = Option<ManualAck>;

    async fn publish(&self, topic: &Topic, payload: Bytes, _: Priority) -> Result<(), PublishError> {
        let most = self.max_packet.load(Ordering::Relaxed) as usize;
        let bytes = payload.len();
        if bytes + PACKET_OVERHEAD > most {
            return Err(PublishError::TooLarge { bytes, most: most.saturating_sub(PACKET_OVERHEAD) });
        }
        loop {
            let properties = PublishProperties {
                content_type: Some("application/json".into()),
                ..PublishProperties::default()
            };
            let options = PublishOptions::new(QoS::AtLeastOnce).properties(properties);
            let notice = self.client.publish_tracked(topic.as_str(), payload.clone(), options).await;
            match notice.map_err(|_| PublishError::Closed)?.wait_completion_async().await {
                Ok(()) => return Ok(()),
                Err(PublishNoticeError::SessionReset) => {}
                Err(PublishNoticeError::V5PubAck(reason)) => {
                    return Err(PublishError::Refused(format!("{reason:?}")));
                }
                Err(PublishNoticeError::Recv) => return Err(PublishError::Closed),
                Err(other) => return Err(PublishError::Refused(other.to_string())),
            }
        }
    }

    fn acknowledge(&self, receipt: Option<ManualAck>) {
        if let Some(receipt) = receipt {
            // A closed client: the broker sends the message again, and the ledger or the next process knows.
            let _ = self.client.try_manual_ack(receipt);
        }
    }

    async fn close(&self) {
        let _ = self.client.disconnect_with_timeout(Duration::from_secs(2)).await;
        // The event loop ends when the packet is out; without a connection it never is.
        let _ = timeout(Duration::from_secs(3), self.ended.cancelled()).await;
    }
}

/// Polls the client's event loop for as long as the link lives.
struct Driver {
    link: Mqtt,
    endpoint: String,
    filter: String,
    subscribed: Arc<AtomicBool>,
    incoming: mpsc::Sender<Incoming<Option<ManualAck>>>,
}

impl Driver {
    async fn run(self, mut events: EventLoop) {
        let _ended = self.link.ended.clone().drop_guard();
        let mut backoff = Backoff::default();
        let mut connected_at: Option<Instant> = None;
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(connack))) => {
                    tracing::info!(endpoint = self.endpoint, session = connack.session_present, "connected");
                    connected_at = Some(Instant::now());
                    let most = connack.properties.and_then(|properties| properties.max_packet_size);
                    self.link.max_packet.store(most.unwrap_or(u32::MAX), Ordering::Relaxed);
                    // Once in a process's life in any case: the topic may have changed since the last one.
                    if !connack.session_present || !self.subscribed.load(Ordering::Relaxed) {
                        self.subscribe();
                    }
                }
                Ok(Event::Incoming(Packet::Publish(publish))) => {
                    let receipt = self.link.client.prepare_ack(&publish);
                    let message = Incoming::Message { payload: publish.payload, receipt };
                    if self.incoming.send(message).await.is_err() {
                        return;
                    }
                }
                Ok(_) => {}
                Err(ConnectionError::RequestsDone | ConnectionError::DisconnectTimeout) => return,
                Err(error) => {
                    // A connection that held starts the waiting anew; one that fell at once does not, or two
                    // workers of one name would throw each other out as fast as they can.
                    if connected_at.take().is_some_and(|at| at.elapsed() > Backoff::LONGEST) {
                        backoff = Backoff::default();
                    }
                    let wait = backoff.next();
                    tracing::warn!(endpoint = self.endpoint, retry_in = ?wait, "{}", explain(&error));
                    sleep(wait).await;
                }
            }
        }
    }

    /// Asks for the subscription; its answer comes through the event loop, which must not wait for it.
    fn subscribe(&self) {
        let (client, filter) = (self.link.client.clone(), self.filter.clone());
        let (subscribed, incoming) = (Arc::clone(&self.subscribed), self.incoming.clone());
        tokio::spawn(async move {
            match subscribe(&client, &filter).await {
                Ok(()) => {
                    tracing::info!(topic = filter, "subscribed");
                    subscribed.store(true, Ordering::Relaxed);
                }
                Err(Some(refused)) => {
                    let _ = incoming.send(Incoming::SubscriptionRefused(refused)).await;
                }
                // The connection went; the next one subscribes.
                Err(None) => {}
            }
        });
    }
}

/// Subscribes at QoS 1. A refusal in words; `None` when the connection went before the answer came.
pub(crate) async fn subscribe(client: &AsyncClient, filter: &str) -> Result<(), Option<String>> {
    let notice = client.subscribe_tracked(filter, QoS::AtLeastOnce).await.map_err(|_| None)?;
    let codes = match notice.wait_async().await {
        Ok(suback) => suback.return_codes,
        Err(SubscribeNoticeError::V5SubAckFailure(codes)) => codes,
        Err(_) => return Err(None),
    };
    match codes.first() {
        Some(SubscribeReasonCode::Success(QoS::AtLeastOnce | QoS::ExactlyOnce)) => Ok(()),
        code => Err(Some(explain_subscribe(filter, code))),
    }
}

type SessionStoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, SessionStoreError>> + Send + 'a>>;

/// Says that this client has nothing in flight from an earlier life, which lets a new process take up the
/// broker's session. It is the truth: at QoS 1 the broker keeps no state of what a client has sent, and what
/// was not acknowledged is the ledger's and, one day, the outbox's to send again.
#[derive(Debug)]
struct NothingInFlight;

impl SessionStore for NothingInFlight {
    fn load<'a>(&'a self, key: &'a SessionStoreKey) -> SessionStoreFuture<'a, Option<PersistedSession>> {
        let session = PersistedSession {
            format_version: 1,
            client_id: key.client_id().to_owned(),
            clean_start: false,
            session_expiry_interval: None,
            outgoing_inflight_upper_limit: None,
            ack_mode: PersistedAckMode::Manual,
            last_pkid: 0,
            last_puback: 0,
            replay: Vec::new(),
            incoming_qos2: Vec::new(),
        };
        Box::pin(async move { Ok(Some(session)) })
    }

    fn save<'a>(&'a self, _: &'a SessionStoreKey, _: &'a PersistedSession) -> SessionStoreFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn clear<'a>(&'a self, _: &'a SessionStoreKey) -> SessionStoreFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }
}
