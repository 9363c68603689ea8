//! A [`Link`] over MQTT 5 and mutual TLS.
//!
//! Each connection has a client of its own, so that nothing of a fallen connection reaches the next one. What lasts
//! longer than a connection is kept here: the messages to publish, the rule by which receipts become void, the
//! identity, and the waiting time between attempts.

mod connection;
mod outgoing;
mod progress;
mod publisher;
mod receipts;
mod session;
mod shared;
mod socket;

pub(crate) mod options;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use postern_types::Topic;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};

use crate::backoff::Backoff;
use crate::config::Config;
use crate::identity::Identity;
use crate::link::{ControlMessage, Guarantee, Inbox, Incoming, Link, Priority, PublishError};
use crate::tls::TlsError;
use connection::{Connection, End};
use outgoing::Message;
use shared::Shared;

pub use receipts::Receipt;
pub(crate) use session::{NotSubscribed, subscribe};

/// A [`Link`] to an MQTT 5 broker over mutual TLS.
///
/// It keeps a persistent session, reconnects with backoff and jitter, subscribes again when the broker has lost the
/// session, may be started before its broker, and uses a renewed certificate without a restart.
#[derive(Clone)]
pub struct Mqtt {
    shared: Arc<Shared>,
}

/// Messages that the engine has not taken yet. More wait in the connection, at most as many as the broker may have
/// in flight.
const INCOMING_CAPACITY: usize = 16;
/// How long [`Link::close`] takes at most.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(4);

impl Mqtt {
    /// Reads the certificate and starts to connect. The inbox yields what arrives.
    pub fn connect(config: &Config) -> Result<(Self, Inbox<Receipt>), TlsError> {
        Self::connect_with(config, None)
    }

    /// The same, with a will: what the broker publishes, retained, on the presence topic when a connection falls. The
    /// function makes the will of each connection.
    pub fn connect_with_will(
        config: &Config,
        will: impl Fn() -> Bytes + Send + Sync + 'static,
    ) -> Result<(Self, Inbox<Receipt>), TlsError> {
        Self::connect_with(config, Some(Box::new(will)))
    }

    fn connect_with(config: &Config, will: Option<Will>) -> Result<(Self, Inbox<Receipt>), TlsError> {
        let identity = Identity::load(config)?;
        let (incoming, jobs) = mpsc::channel(INCOMING_CAPACITY);
        let (control, control_receiver) = mpsc::channel(INCOMING_CAPACITY);
        let shared = Arc::new(Shared::default());

        let supervisor = Supervisor {
            config: config.clone(),
            shared: Arc::clone(&shared),
            incoming,
            control,
            identity,
            will,
        };
        tokio::spawn(supervisor.run());
        Ok((Self { shared }, Inbox { jobs, control: control_receiver }))
    }

    /// Whether the broker has accepted the connection; changes as connections come and go.
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.shared.connected()
    }
}

impl Link for Mqtt {
    type Receipt = Receipt;

    async fn publish(
        &self,
        topic: &Topic,
        payload: Bytes,
        priority: Priority,
        guarantee: Guarantee,
    ) -> Result<(), PublishError> {
        let (outcome, receiver) = oneshot::channel();
        let message = Message { topic: topic.to_string(), payload, priority, guarantee, outcome };
        self.shared.outgoing.push(message);
        receiver.await.unwrap_or(Err(PublishError::Closed))
    }

    fn acknowledge(&self, receipt: Receipt) {
        self.shared.acknowledge(receipt);
    }

    fn controlled(&self) -> watch::Receiver<u64> {
        self.shared.controlled()
    }

    fn unsettled(&self) -> watch::Receiver<bool> {
        self.shared.unsettled()
    }

    async fn close(&self) {
        self.shared.close.cancel();
        let _ = timeout(CLOSE_TIMEOUT, self.shared.ended.cancelled()).await;
        self.shared.outgoing.close();
    }
}

/// Opens one connection after the other until the link is closed.
struct Supervisor {
    config: Config,
    shared: Arc<Shared>,
    incoming: mpsc::Sender<Incoming<Receipt>>,
    control: mpsc::Sender<ControlMessage<Receipt>>,
    identity: Identity,
    will: Option<Will>,
}

/// Makes the will of a connection.
type Will = Box<dyn Fn() -> Bytes + Send + Sync>;

impl Supervisor {
    async fn run(mut self) {
        let _ended = self.shared.ended.clone().drop_guard();
        let mut backoff = Backoff::default();
        let (mut subscribed, mut willing) = (false, true);

        while !self.shared.close.is_cancelled() {
            let connection = Connection {
                config: &self.config,
                shared: &self.shared,
                incoming: &self.incoming,
                control: &self.control,
                subscribed: &mut subscribed,
                will: self.will.as_ref().filter(|_| willing).map(|will| will()),
            };
            match connection.run(&mut self.identity).await {
                End::Closed => break,
                End::NewIdentity => backoff = Backoff::default(),
                End::NotAuthorized(reason) => {
                    // AWS IoT Core refuses a connection for its will too, which an older policy does not allow.
                    if self.will.is_some() {
                        willing = !willing;
                        tracing::warn!(
                            willing,
                            "the next connection is tried with (true) or without a will (false)"
                        );
                    }
                    self.wait(backoff.next(), &reason).await;
                }
                End::Failed(reason) => {
                    if let Some(accepted) = self.shared.take_accepted() {
                        backoff.lasted(accepted.elapsed());
                    }
                    self.wait(backoff.next(), &reason).await;
                }
            }
        }
        self.shared.outgoing.close();
    }

    async fn wait(&self, time: Duration, reason: &str) {
        tracing::warn!(endpoint = %self.config.endpoint, retry_in = ?time, "{reason}");
        tokio::select! {
            () = sleep(time) => {}
            () = self.shared.close.cancelled() => {}
        }
    }
}
