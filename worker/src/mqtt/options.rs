//! The settings of an MQTT connection to AWS IoT Core.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use postern_types::limits::IOT_PAYLOAD_BYTES;
use rumqttc::{
    AckMode, Broker, IncomingPacketSizeLimit, MqttOptions, PersistedAckMode, PersistedSession, SessionStore,
    SessionStoreError, SessionStoreKey, TlsConfiguration, Transport,
};

use crate::config::Config;
use crate::dial::dial;

/// Bytes of a PUBLISH packet beside its payload, at most: header, topic and properties.
pub(super) const PACKET_OVERHEAD: usize = 1_024;
/// Messages in flight at once, each way: AWS IoT Core allows 100 without a PUBACK.
pub(super) const IN_FLIGHT: usize = 100;
/// How long TCP, TLS and MQTT may take together to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// The options of a worker's connection, with a socket that the worker dials itself.
pub(crate) fn options(config: &Config, tls: Arc<rustls::ClientConfig>) -> MqttOptions {
    let broker = Broker::tcp(config.endpoint.host.clone(), config.endpoint.port);
    let largest = u32::try_from(IOT_PAYLOAD_BYTES + PACKET_OVERHEAD).unwrap_or(u32::MAX);

    let mut options = MqttOptions::new(config.client_id.clone(), broker);
    options
        .set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls)))
        .set_keep_alive(config.keep_alive_seconds)
        .set_connect_timeout(CONNECT_TIMEOUT)
        .set_clean_start(false)
        .set_session_expiry_interval(Some(config.session_expiry_seconds))
        .set_session_store(NothingInFlight)
        .set_ack_mode(AckMode::Manual)
        .set_receive_maximum(u16::try_from(IN_FLIGHT).ok())
        .set_incoming_packet_size_limit(IncomingPacketSizeLimit::Bytes(largest));
    let (endpoint, proxy) = (config.endpoint.clone(), config.proxy.clone());
    options.set_socket_connector(move |_, _| {
        let (endpoint, proxy) = (endpoint.clone(), proxy.clone());
        async move { dial(&endpoint.host, endpoint.port, proxy.as_ref()).await.map_err(io::Error::other) }
    });
    options
}

type SessionStoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, SessionStoreError>> + Send + 'a>>;

/// Tells the client library that nothing is in flight from an earlier connection, which lets it take up the broker's
/// session. This is true: each connection has a client of its own, the broker keeps no state of what a client has
/// published at QoS 1, and the link itself sends again what was not acknowledged.
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
