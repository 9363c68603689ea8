//! What the link's users and its current connection have in common.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rumqttc::mqttbytes::v5::Publish;
use rumqttc::{AsyncClient, ManualAck};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::outgoing::Outgoing;
use super::receipts::{Receipt, Receipts};

/// The state of a link across its connections.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) outgoing: Arc<Outgoing>,
    deliveries: Mutex<Deliveries>,
    connected: watch::Sender<bool>,
    /// The number of connections on which the worker had its control topics; 0 if the broker refuses them.
    controlled: watch::Sender<u64>,
    settling: Settling,
    /// When the broker accepted the last connection.
    accepted: Mutex<Option<Instant>>,
    /// Cancelled to close the link.
    pub(super) close: CancellationToken,
    /// Cancelled when the link has ended.
    pub(super) ended: CancellationToken,
}

/// Whether the broker's messages from before the connection have arrived.
struct Settling {
    unsettled: watch::Sender<bool>,
    last_delivery: Mutex<Instant>,
}

impl Default for Settling {
    fn default() -> Self {
        Self { unsettled: watch::Sender::new(true), last_delivery: Mutex::new(Instant::now()) }
    }
}

/// How long a broker that sends what it has kept pauses at most between two messages. AWS IoT Core sends ten a second.
const QUIET: Duration = Duration::from_millis(300);
/// How long the worker waits at most for what the broker has kept.
const SETTLE_LIMIT: Duration = Duration::from_secs(5);

struct Deliveries {
    receipts: Receipts<ManualAck>,
    /// The client of the current connection.
    client: Option<AsyncClient>,
}

impl Default for Deliveries {
    fn default() -> Self {
        Self { receipts: Receipts::new(), client: None }
    }
}

impl Shared {
    /// Makes `client` the one that acknowledges. All earlier receipts become void.
    pub(super) fn open(&self, client: AsyncClient) {
        let mut deliveries = self.deliveries();
        deliveries.receipts.next_connection();
        deliveries.client = Some(client);
    }

    /// The connection has fallen.
    pub(super) fn fall(&self) {
        let mut deliveries = self.deliveries();
        deliveries.receipts.next_connection();
        deliveries.client = None;
        drop(deliveries);

        self.connected.send_replace(false);
    }

    /// The broker has accepted the connection.
    pub(super) fn accepted(&self) {
        *self.accepted.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.settling.unsettled.send_replace(true);
        self.note_delivery();
        self.connected.send_replace(true);
    }

    /// When the broker accepted the last connection; `None` if it has accepted none since this was last called.
    pub(super) fn take_accepted(&self) -> Option<Instant> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn is_connected(&self) -> bool {
        *self.connected.borrow()
    }

    pub(super) fn connected(&self) -> watch::Receiver<bool> {
        self.connected.subscribe()
    }

    /// Notes whether the worker has its control topics on the current connection.
    pub(super) fn set_controlled(&self, controlled: bool) {
        self.controlled.send_modify(|connections| {
            *connections = if controlled { *connections + 1 } else { 0 };
        });
    }

    pub(super) fn is_controlled(&self) -> bool {
        *self.controlled.borrow() > 0
    }

    pub(super) fn controlled(&self) -> watch::Receiver<u64> {
        self.controlled.subscribe()
    }

    /// Waits until the messages of an earlier session have arrived.
    pub(super) async fn settle(&self, session_present: bool) {
        let limit = Instant::now() + SETTLE_LIMIT;
        while session_present && Instant::now() < limit {
            let last = *self.settling.last_delivery.lock().unwrap_or_else(PoisonError::into_inner);
            if last.elapsed() >= QUIET {
                break;
            }
            sleep(QUIET / 6).await;
        }
        self.settling.unsettled.send_replace(false);
    }

    pub(super) fn unsettled(&self) -> watch::Receiver<bool> {
        self.settling.unsettled.subscribe()
    }

    fn note_delivery(&self) {
        *self.settling.last_delivery.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Notes a message that has arrived. `None` for a redelivery that an owed PUBACK answers.
    pub(super) fn delivered(&self, publish: &Publish) -> Option<Receipt> {
        self.note_delivery();
        let mut deliveries = self.deliveries();
        match deliveries.client.as_ref()?.prepare_ack(publish) {
            Some(acknowledgement) => {
                deliveries.receipts.delivered(publish.pkid, &publish.payload, acknowledgement)
            }
            None => Some(Receipt::NOT_WANTED),
        }
    }

    /// Asks for the PUBACK of a delivery, if the connection still owes it.
    pub(super) fn acknowledge(&self, receipt: Receipt) {
        let mut deliveries = self.deliveries();
        let acknowledgement = deliveries.receipts.acknowledge(receipt);
        if let (Some(client), Some(acknowledgement)) = (&deliveries.client, acknowledgement) {
            // The client's queue has no bound and is open as long as the connection. Once it is not, the broker
            // delivers the message again.
            let _ = client.try_manual_ack(acknowledgement);
        }
    }

    /// A PUBACK has been sent.
    pub(super) fn acknowledged(&self, packet_id: u16) {
        self.deliveries().receipts.acknowledged(packet_id);
    }

    /// How many messages wait for their PUBACK.
    pub(super) fn owed(&self) -> usize {
        self.deliveries().receipts.owed()
    }

    fn deliveries(&self) -> MutexGuard<'_, Deliveries> {
        self.deliveries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
