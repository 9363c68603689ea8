//! Brings waiting messages to the broker over one connection: in order of priority, at the pace that the broker
//! allows, and a bounded number at a time.

use std::sync::Arc;

use rumqttc::mqttbytes::v5::PublishProperties;
use rumqttc::{AsyncClient, PublishNotice, PublishNoticeError, PublishOptions, QoS};
use tokio::task::JoinSet;

use super::options::{IN_FLIGHT, PACKET_OVERHEAD};
use super::outgoing::{Message, Outgoing};
use super::progress::Progress;
use crate::link::{Guarantee, PublishError};
use crate::pacing::Pacer;

/// Publishes until the connection ends. Messages that are in flight then go back to the queue.
pub(super) async fn publish_all(
    client: &AsyncClient,
    outgoing: &Arc<Outgoing>,
    progress: &Arc<Progress>,
    max_packet: usize,
) {
    let mut pacer = Pacer::new();
    let mut in_flight = JoinSet::new();
    loop {
        // A message is taken when it can go, so that an answer that comes meanwhile goes first.
        while in_flight.len() >= IN_FLIGHT {
            in_flight.join_next().await;
        }
        pacer.ready().await;
        let message = tokio::select! {
            message = outgoing.next() => message,
            Some(_) = in_flight.join_next() => continue,
        };

        let bytes = message.payload.len();
        if bytes + PACKET_OVERHEAD > max_packet {
            let most = max_packet.saturating_sub(PACKET_OVERHEAD);
            message.finish(Err(PublishError::TooLarge { bytes, most }));
            continue;
        }

        pacer.charge(bytes + PACKET_OVERHEAD);
        let in_transit = InTransit { message: Some(message), outgoing: Arc::clone(outgoing) };
        let Some(notice) = in_transit.send(client).await else { return };
        if in_transit.is_acknowledged() {
            progress.published();
        }
        in_flight.spawn(in_transit.finish(notice, Arc::clone(progress)));
    }
}

/// A message that was taken from the queue. It goes back unless its outcome is known.
struct InTransit {
    message: Option<Message>,
    outgoing: Arc<Outgoing>,
}

impl InTransit {
    /// Hands the message to the client. `None` when the connection has ended.
    async fn send(&self, client: &AsyncClient) -> Option<PublishNotice> {
        let message = self.message.as_ref()?;
        let properties = PublishProperties {
            content_type: Some("application/json".into()),
            ..PublishProperties::default()
        };
        let options = match message.guarantee {
            Guarantee::AtLeastOnce => PublishOptions::new(QoS::AtLeastOnce),
            Guarantee::Retained => PublishOptions::new(QoS::AtLeastOnce).retained(),
            Guarantee::AtMostOnce => PublishOptions::new(QoS::AtMostOnce),
        };

        let options = options.properties(properties);
        client.publish_tracked(message.topic.as_str(), message.payload.clone(), options).await.ok()
    }

    /// Whether the broker answers the message with a PUBACK.
    fn is_acknowledged(&self) -> bool {
        self.message.as_ref().is_some_and(|message| message.guarantee != Guarantee::AtMostOnce)
    }

    /// Waits for the PUBACK, or until a message without one was sent, and reports the outcome.
    async fn finish(mut self, notice: PublishNotice, progress: Arc<Progress>) {
        let outcome = match notice.wait_completion_async().await {
            Ok(()) => Ok(()),
            Err(PublishNoticeError::V5PubAck(reason)) => Err(PublishError::Refused(format!("{reason:?}"))),
            Err(PublishNoticeError::RetainNotSupported) => {
                Err(PublishError::Refused("the broker keeps no retained messages".into()))
            }
            // The connection has fallen: dropping the message puts it back into the queue.
            Err(_) => return,
        };

        if self.is_acknowledged() {
            progress.acknowledged();
        }
        if let Some(message) = self.message.take() {
            message.finish(outcome);
        }
    }
}

impl Drop for InTransit {
    fn drop(&mut self) {
        if let Some(message) = self.message.take() {
            self.outgoing.put_back(message);
        }
    }
}
