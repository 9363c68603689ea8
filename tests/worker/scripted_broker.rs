//! An MQTT 5 broker over mutual TLS. The test decides every packet that it sends.
//!
//! The test accepts a connection and chooses what the broker does on it: answer as a broker should
//! ([`Connection::serve_until`]), withhold acknowledgements, send a message again with the same packet id, stop
//! reading, refuse, or close the connection in the middle of a packet. The client library's codec encodes and decodes
//! the packets.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use rumqttc::mqttbytes::v5::{
    ConnAck, ConnAckProperties, ConnectReturnCode, Packet, PubAck, PubAckReason, Publish, SubAck,
    SubscribeReasonCode,
};
use rumqttc::mqttbytes::{Error, QoS};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::site::{Site, TIMEOUT};

/// The largest packet that the broker accepts and sends, in bytes. AWS IoT Core has the same limit.
pub(crate) const MAX_PACKET: u32 = 132_096;

/// A broker that listens at the site's port.
pub(crate) struct ScriptedBroker {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    /// How the broker answers the next CONNECT packets.
    pub(crate) connack: ConnAck,
}

impl ScriptedBroker {
    pub(crate) async fn start(site: &Site) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", site.port)).await.unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(site.server_tls()));
        let properties = ConnAckProperties {
            max_packet_size: Some(MAX_PACKET),
            receive_max: Some(100),
            ..no_properties()
        };
        let connack = ConnAck {
            session_present: false,
            code: ConnectReturnCode::Success,
            properties: Some(properties),
        };

        Self { listener, acceptor, connack }
    }

    /// Waits for the worker's next connection and answers its CONNECT.
    pub(crate) async fn accept(&self, session_present: bool) -> Connection {
        self.accept_and_tell(session_present).await.0
    }

    /// The same; also returns the topic of the worker's will, if it has one.
    pub(crate) async fn accept_and_tell(&self, session_present: bool) -> (Connection, Option<String>) {
        let mut connection = self.accept_tls().await;
        let Some(Packet::Connect(_, will, _)) = connection.packet().await else { panic!("no CONNECT") };
        let will = will.map(|will| String::from_utf8(will.topic.to_vec()).unwrap());

        let connack = ConnAck { session_present, ..self.connack.clone() };
        connection.send(Packet::ConnAck(connack)).await;
        (connection, will)
    }

    /// Accepts a connection and answers its SUBSCRIBE too.
    pub(crate) async fn accept_subscribed(&self) -> Connection {
        let mut connection = self.accept(false).await;
        // The job topic and the two control topics.
        connection.serve_until(|log| log.filters.len() == 3).await;
        connection
    }

    /// Waits for the worker's next TLS connection. Skips connections that end before the TLS handshake is complete.
    async fn accept_tls(&self) -> Connection {
        within(async {
            loop {
                let (tcp, _) = self.listener.accept().await.unwrap();
                if let Ok(stream) = self.acceptor.accept(tcp).await {
                    return Connection {
                        stream,
                        buffer: BytesMut::new(),
                        log: Log::default(),
                        withhold_pubacks: false,
                        refused: None,
                    };
                }
            }
        })
        .await
    }
}

/// What the worker has sent on a connection.
#[derive(Default)]
pub(crate) struct Log {
    /// The published answers, oldest first, with the time of their arrival.
    pub(crate) published: Vec<(Instant, Value)>,
    /// The messages on other topics than the answers'.
    pub(crate) views: Vec<(String, Value)>,
    /// The packet ids of the PUBACKs, oldest first.
    pub(crate) acknowledged: Vec<u16>,
    /// The filters of the SUBSCRIBE packets.
    pub(crate) filters: Vec<String>,
    /// The number of SUBSCRIBE packets for jobs.
    pub(crate) subscriptions: usize,
}

/// One connection of the worker to the broker.
pub(crate) struct Connection {
    pub(crate) stream: TlsStream<TcpStream>,
    buffer: BytesMut,
    pub(crate) log: Log,
    /// Whether the broker leaves published messages without a PUBACK.
    pub(crate) withhold_pubacks: bool,
    /// The end of the filters that the broker refuses.
    pub(crate) refused: Option<&'static str>,
}

impl Connection {
    /// Answers as a broker should until `done`. Panics if the worker ends the connection.
    pub(crate) async fn serve_until(&mut self, mut done: impl FnMut(&Log) -> bool) {
        within(async {
            while !done(&self.log) {
                let packet = self.packet().await.expect("the worker ended the connection");
                self.answer(packet).await;
            }
        })
        .await;
    }

    /// Answers as a broker should until the worker ends the connection.
    pub(crate) async fn serve_until_closed(&mut self) {
        within(async {
            while let Some(packet) = self.packet().await {
                self.answer(packet).await;
            }
        })
        .await;
    }

    /// Proves that the connection still works: the worker acknowledges one more message.
    pub(crate) async fn still_works(&mut self) {
        const PROBE: u16 = 60_000;
        self.publish(PROBE, r#"{"Input":{"a":1,"b":1},"TaskToken":"probe"}"#).await;
        self.serve_until(|log| log.acknowledged.contains(&PROBE)).await;
    }

    /// Answers a packet as a broker should.
    pub(crate) async fn answer(&mut self, packet: Packet) {
        match packet {
            Packet::Publish(publish) => {
                let message = serde_json::from_slice(&publish.payload).unwrap();
                if is_answer(&publish) {
                    self.log.published.push((Instant::now(), message));
                } else {
                    let topic = String::from_utf8(publish.topic.to_vec()).unwrap();
                    self.log.views.push((topic, message));
                }

                if !self.withhold_pubacks && publish.qos == QoS::AtLeastOnce {
                    self.puback(publish.pkid, PubAckReason::Success).await;
                }
            }
            Packet::PubAck(puback) => self.log.acknowledged.push(puback.pkid),
            Packet::Subscribe(subscribe) => {
                let filter = subscribe.filters[0].path.clone();
                self.log.subscriptions += usize::from(filter.ends_with("/to/worker"));
                let code = match self.refused {
                    Some(end) if filter.ends_with(end) => SubscribeReasonCode::NotAuthorized,
                    _ => SubscribeReasonCode::Success(QoS::AtLeastOnce),
                };
                self.log.filters.push(filter);
                self.suback(subscribe.pkid, code).await;
            }
            Packet::PingReq => self.send(Packet::PingResp).await,
            Packet::Disconnect(_) => {}
            other => panic!("a worker does not send {other:?}"),
        }
    }

    /// The worker's next packet; `None` when it has closed the connection.
    pub(crate) async fn packet(&mut self) -> Option<Packet> {
        loop {
            match Packet::read(&mut self.buffer, None) {
                Ok(packet) => return Some(packet),
                Err(Error::InsufficientBytes(_)) => {}
                Err(error) => panic!("the worker sent an invalid packet: {error}"),
            }

            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// The worker's next packet that concerns a job. Messages about the worker's own state are answered.
    pub(crate) async fn packet_of_a_job(&mut self) -> Option<Packet> {
        loop {
            match self.packet().await? {
                Packet::Publish(publish) if !is_answer(&publish) => {
                    self.answer(Packet::Publish(publish)).await;
                }
                packet => return Some(packet),
            }
        }
    }

    /// Sends a message at QoS 1 without the DUP flag, as AWS IoT Core does for redeliveries too.
    pub(crate) async fn publish(&mut self, packet_id: u16, payload: &str) {
        self.send(publish(packet_id, payload)).await;
    }

    /// Sends the first half of a PUBLISH packet and closes the connection.
    pub(crate) async fn cut_in_the_middle_of(mut self, packet: Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, None).unwrap();

        self.write(&bytes[..bytes.remaining() / 2]).await;
    }

    pub(crate) async fn puback(&mut self, packet_id: u16, reason: PubAckReason) {
        self.send(Packet::PubAck(PubAck { pkid: packet_id, reason, properties: None })).await;
    }

    pub(crate) async fn suback(&mut self, packet_id: u16, code: SubscribeReasonCode) {
        let suback = SubAck { pkid: packet_id, return_codes: vec![code], properties: None };
        self.send(Packet::SubAck(suback)).await;
    }

    pub(crate) async fn send(&mut self, packet: Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, None).unwrap();

        self.write(&bytes).await;
    }

    async fn write(&mut self, bytes: &[u8]) {
        // If the worker has closed the connection, the next read reports it.
        let _ = self.stream.write_all(bytes).await;
        let _ = self.stream.flush().await;
    }

    /// The certificate that the worker presented, in DER.
    pub(crate) fn client_certificate(&self) -> Vec<u8> {
        self.stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    }
}

/// Whether a message of the worker is an answer.
fn is_answer(publish: &Publish) -> bool {
    publish.topic == "tenant1/to/lambda"
}

/// A PUBLISH packet with a job.
pub(crate) fn publish(packet_id: u16, payload: &str) -> Packet {
    publish_on("tenant1/to/worker", packet_id, payload)
}

/// A PUBLISH packet on a topic.
pub(crate) fn publish_on(topic: &str, packet_id: u16, payload: &str) -> Packet {
    let mut publish = Publish::new(topic, QoS::AtLeastOnce, payload.to_owned(), None);
    publish.pkid = packet_id;
    Packet::Publish(publish)
}

/// Waits for a future, and panics when it takes longer than [`TIMEOUT`].
pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    timeout(TIMEOUT, what).await.expect("the wait exceeded its limit")
}

/// CONNACK properties without any value.
fn no_properties() -> ConnAckProperties {
    ConnAckProperties {
        session_expiry_interval: None,
        receive_max: None,
        max_qos: None,
        retain_available: None,
        max_packet_size: None,
        assigned_client_identifier: None,
        topic_alias_max: None,
        reason_string: None,
        user_properties: Vec::new(),
        wildcard_subscription_available: None,
        subscription_identifiers_available: None,
        shared_subscription_available: None,
        server_keep_alive: None,
        response_information: None,
        server_reference: None,
        authentication_method: None,
        authentication_data: None,
    }
}

/// How long a test waits before it concludes that something does not happen.
pub(crate) const QUIET: Duration = Duration::from_millis(300);
