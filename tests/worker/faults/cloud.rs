//! The cloud's side of the broker: publishes jobs and collects answers, across restarts of the broker.

use std::sync::Arc;
use std::time::Duration;

use postern_types::TaskToken;
use rumqttc::mqttbytes::v5::Packet;
use rumqttc::{AsyncClient, Broker, Event, MqttOptions, PublishOptions, QoS, TlsConfiguration, Transport};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::plan::Job;
use crate::site::Site;

/// One attempt of a job, as Step Functions makes one: a task token of its own, and the job's key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Attempt {
    pub(crate) number: usize,
    pub(crate) attempt: u32,
}

impl Attempt {
    pub(crate) fn token(&self) -> String {
        format!("token-{}-{}", self.number, self.attempt)
    }

    /// The idempotency key that all attempts of the job share.
    pub(crate) fn key(&self) -> String {
        format!("{:032x}", self.number)
    }

    pub(crate) fn job_id(&self) -> String {
        TaskToken::parse(self.token()).unwrap().job_id().to_string()
    }

    /// The dispatcher's message.
    pub(crate) fn message(&self, job: &Job) -> Value {
        json!({
            "Input": {"number": job.number, "milliseconds": job.milliseconds},
            "TaskToken": self.token(),
            "JobId": self.job_id(),
            "IdempotencyKey": self.key(),
            "Kind": job.kind,
            "HeartbeatSeconds": 60,
        })
    }
}

/// A client of the broker with a persistent session.
pub(crate) struct Cloud {
    client: AsyncClient,
    pub(crate) answers: mpsc::UnboundedReceiver<Value>,
    /// Counts the connections on which the answers are subscribed to.
    pub(crate) subscribed: watch::Receiver<usize>,
}

impl Cloud {
    /// Connects with the certificate `cloud`, and subscribes to the answers.
    pub(crate) async fn connect(site: &Site) -> Self {
        let mut options = MqttOptions::new("cloud", Broker::tcp("localhost", site.port));
        options
            .set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls(site))))
            .set_clean_start(false)
            .set_session_expiry_interval(Some(3_600))
            .set_unlimited_incoming_packet_size();
        let (client, mut events) = AsyncClient::builder(options).capacity(10).build();
        let (sender, answers) = mpsc::unbounded_channel();
        let (counter, mut subscribed) = watch::channel(0);
        let own_client = client.clone();
        tokio::spawn(async move {
            while !sender.is_closed() {
                match events.poll().await {
                    Ok(Event::Incoming(Packet::Publish(publish))) => {
                        let _ = sender.send(serde_json::from_slice(&publish.payload).unwrap());
                    }
                    // On each connection: the broker may have lost the session.
                    Ok(Event::Incoming(Packet::ConnAck(_))) => {
                        tokio::spawn(subscribe(own_client.clone(), counter.clone()));
                    }
                    Ok(_) => {}
                    // The broker restarts: the next poll connects again.
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        });

        subscribed.wait_for(|connections| *connections > 0).await.unwrap();
        Self { client, answers, subscribed }
    }

    /// Publishes until the broker has the message. A message whose acknowledgement was lost is published twice, as
    /// MQTT allows.
    pub(crate) async fn publish(&self, message: &Value) {
        loop {
            let options = PublishOptions::new(QoS::AtLeastOnce);
            let notice = self.client.publish_tracked("tenant1/to/worker", message.to_string(), options).await;
            if notice.unwrap().wait_completion_async().await.is_ok() {
                return;
            }
        }
    }
}

async fn subscribe(client: AsyncClient, subscribed: watch::Sender<usize>) {
    let notice = client.subscribe_tracked("tenant1/to/lambda", QoS::AtLeastOnce).await;
    // If the connection falls meanwhile, the next one subscribes.
    if let Ok(notice) = notice
        && notice.wait_completion_async().await.is_ok()
    {
        subscribed.send_modify(|connections| *connections += 1);
    }
}

fn tls(site: &Site) -> Arc<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(site.roots("ca"));
    Arc::new(builder.with_client_auth_cert(vec![site.pem("cloud")], site.key("cloud")).unwrap())
}
