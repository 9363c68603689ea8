//! Which messages of the current connection wait for their PUBACK.
//!
//! The client library ends a connection on which it is asked for a PUBACK that the broker does not expect. A broker
//! may send a message again, under the same packet id, while its PUBACK is on its way; and a receipt may outlive its
//! connection. This table follows the library's own bookkeeping, event by event, so that a PUBACK is asked for exactly
//! when one is owed.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use bytes::Bytes;

/// Identifies one delivery of a message on one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    connection: u64,
    packet_id: u16,
    /// Tells deliveries under one packet id apart.
    delivery: u64,
}

impl Receipt {
    /// The receipt of a message at QoS 0, which is not acknowledged: there is no connection with this number.
    pub(super) const NOT_WANTED: Self = Self { connection: u64::MAX, packet_id: 0, delivery: 0 };
}

/// The deliveries of the current connection. `A` is what the client library needs to acknowledge one.
pub(super) struct Receipts<A> {
    connection: u64,
    deliveries: u64,
    owed: HashMap<u16, Owed<A>>,
}

struct Owed<A> {
    delivery: u64,
    payload: Bytes,
    /// Taken when the PUBACK is asked for; the entry goes when the PUBACK has been sent.
    acknowledgement: Option<A>,
}

impl<A> Receipts<A> {
    pub(super) fn new() -> Self {
        Self { connection: 0, deliveries: 0, owed: HashMap::new() }
    }

    /// Makes the receipts of all earlier connections void.
    pub(super) fn next_connection(&mut self) {
        self.connection += 1;
        self.owed.clear();
    }

    /// How many messages wait for their PUBACK.
    pub(super) fn owed(&self) -> usize {
        self.owed.len()
    }

    /// Notes a delivery. Returns no receipt for a message that is already owed a PUBACK: that PUBACK answers this
    /// delivery too.
    pub(super) fn delivered(
        &mut self,
        packet_id: u16,
        payload: &Bytes,
        acknowledgement: A,
    ) -> Option<Receipt> {
        let delivery = self.deliveries;
        let owed = Owed { delivery, payload: payload.clone(), acknowledgement: Some(acknowledgement) };
        match self.owed.entry(packet_id) {
            Entry::Vacant(entry) => {
                entry.insert(owed);
            }
            // The broker has given the packet id to another message, though it never got the PUBACK for the first.
            Entry::Occupied(mut entry)
                if entry.get().acknowledgement.is_some() && entry.get().payload != *payload =>
            {
                entry.insert(owed);
            }
            Entry::Occupied(_) => return None,
        }

        self.deliveries += 1;
        Some(Receipt { connection: self.connection, packet_id, delivery })
    }

    /// What acknowledges a delivery: nothing if its connection has fallen or it was acknowledged before.
    pub(super) fn acknowledge(&mut self, receipt: Receipt) -> Option<A> {
        if receipt.connection != self.connection {
            return None;
        }
        let owed = self.owed.get_mut(&receipt.packet_id)?;
        if owed.delivery != receipt.delivery {
            return None;
        }
        owed.acknowledgement.take()
    }

    /// Notes that the PUBACK for a packet id was sent. The next message under this packet id is a new delivery.
    pub(super) fn acknowledged(&mut self, packet_id: u16) {
        self.owed.remove(&packet_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn payload(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn a_delivery_is_acknowledged_once() {
        let mut receipts = Receipts::new();
        let receipt = receipts.delivered(1, &payload("a"), ()).unwrap();
        assert_eq!(receipts.acknowledge(receipt), Some(()));
        assert_eq!(receipts.acknowledge(receipt), None);
    }

    #[test]
    fn a_redelivery_before_the_puback_is_answered_by_it() {
        let mut receipts = Receipts::new();
        let receipt = receipts.delivered(1, &payload("a"), ()).unwrap();
        assert_eq!(receipts.delivered(1, &payload("a"), ()), None);
        receipts.acknowledge(receipt).unwrap();
        assert_eq!(receipts.delivered(1, &payload("a"), ()), None, "the PUBACK is on its way");

        receipts.acknowledged(1);
        let again = receipts.delivered(1, &payload("a"), ()).unwrap();
        assert_eq!(receipts.acknowledge(receipt), None, "an old receipt does not acknowledge a new delivery");
        assert_eq!(receipts.acknowledge(again), Some(()));
    }

    #[test]
    fn another_message_under_an_unacknowledged_packet_id_replaces_the_first() {
        let mut receipts = Receipts::new();
        let first = receipts.delivered(1, &payload("a"), ()).unwrap();
        let second = receipts.delivered(1, &payload("b"), ()).unwrap();
        assert_eq!(receipts.acknowledge(first), None);
        assert_eq!(receipts.acknowledge(second), Some(()));
    }

    #[test]
    fn receipts_of_an_earlier_connection_are_void() {
        let mut receipts = Receipts::new();
        let stale = receipts.delivered(1, &payload("a"), ()).unwrap();
        receipts.next_connection();
        assert_eq!(receipts.acknowledge(stale), None);
        receipts.delivered(1, &payload("a"), ()).unwrap();
        assert_eq!(receipts.acknowledge(stale), None);
    }

    proptest! {
        /// The client library keeps a bit for each packet id: set by a PUBLISH, cleared by a PUBACK, and an error when
        /// it is asked for a PUBACK whose bit is clear. Whatever the order of deliveries, acknowledgements, PUBACKs
        /// and reconnections, that error never comes, and every bit is cleared in the end.
        #[test]
        fn a_puback_is_asked_for_exactly_when_one_is_owed(steps in prop::collection::vec((0_u8..12, 0_u16..3), 1..200)) {
            let mut receipts = Receipts::new();
            let mut bits = [false; 3];
            let (mut held, mut asked) = (Vec::new(), Vec::new());
            for (step, id) in steps {
                match step {
                    0..6 => {
                        bits[usize::from(id)] = true;
                        held.extend(receipts.delivered(id, &payload("same"), id));
                    }
                    6..8 if !held.is_empty() => {
                        let receipt = held.swap_remove(usize::from(id) % held.len());
                        asked.extend(receipts.acknowledge(receipt));
                    }
                    8..11 if !asked.is_empty() => {
                        let id: u16 = asked.remove(0);
                        prop_assert!(bits[usize::from(id)], "unsolicited PUBACK");
                        bits[usize::from(id)] = false;
                        receipts.acknowledged(id);
                    }
                    11 => {
                        receipts.next_connection();
                        bits = [false; 3];
                        asked.clear();
                    }
                    _ => {}
                }
            }
            asked.extend(held.drain(..).filter_map(|receipt| receipts.acknowledge(receipt)));
            for id in asked.drain(..) {
                prop_assert!(bits[usize::from(id)], "unsolicited PUBACK");
                bits[usize::from(id)] = false;
                receipts.acknowledged(id);
            }
            prop_assert_eq!(bits, [false; 3]);
            prop_assert_eq!(receipts.owed(), 0);
        }
    }
}
