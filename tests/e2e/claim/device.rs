//! An MQTT client with a worker's certificate that does only what its test lets it do, and requests to S3 whose every
//! byte the test chooses.

use std::sync::Arc;

use postern_local::WorkerFiles;
use rumqttc::mqttbytes::v5::Packet;
use rumqttc::{AsyncClient, Broker, Event, MqttOptions, PublishOptions, QoS, TlsConfiguration, Transport};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::stack::{Stack, TIMEOUT};

/// A connection in the name of one worker.
pub(super) struct Device {
    client: AsyncClient,
    messages: mpsc::UnboundedReceiver<(String, Value)>,
}

impl Device {
    pub(super) fn connect(stack: &Stack, files: &WorkerFiles, client_id: &str) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(stack.emulator.ca()).unwrap()).unwrap();
        let certificate = CertificateDer::from_pem_file(files.cert()).unwrap();
        let tls =
            rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_client_auth_cert(vec![certificate], PrivateKeyDer::from_pem_file(files.key()).unwrap())
                .unwrap();

        let broker = stack.emulator.broker();
        let (host, port) = broker.split_once(':').unwrap();
        let mut options = MqttOptions::new(client_id, Broker::tcp(host, port.parse().unwrap()));
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(tls))));
        let (client, mut events) = AsyncClient::builder(options).capacity(10).build();
        let (sender, messages) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(event) = events.poll().await {
                if let Event::Incoming(Packet::Publish(publish)) = event {
                    let topic = String::from_utf8(publish.topic.to_vec()).unwrap();
                    // A test that has ended needs no more messages.
                    let _ = sender.send((topic, serde_json::from_slice(&publish.payload).unwrap()));
                }
            }
        });
        Self { client, messages }
    }

    /// Whether the broker grants a subscription.
    pub(super) async fn subscribes(&self, filter: &str) -> bool {
        let notice = self.client.subscribe_tracked(filter, QoS::AtLeastOnce).await.unwrap();
        timeout(TIMEOUT, notice.wait_completion_async()).await.expect("no SUBACK comes").is_ok()
    }

    /// Whether the broker takes a message.
    pub(super) async fn publishes(&self, topic: &str, message: &Value) -> bool {
        let options = PublishOptions::new(QoS::AtLeastOnce);
        let Ok(notice) = self.client.publish_tracked(topic, message.to_string(), options).await else {
            return false;
        };
        timeout(TIMEOUT, notice.wait_completion_async()).await.expect("no PUBACK comes").is_ok()
    }

    /// The next message, which must be on this topic.
    pub(super) async fn next(&mut self, topic: &str) -> Value {
        let message = timeout(TIMEOUT, self.messages.recv()).await.expect("no message comes");
        let (of, message) = message.expect("the connection has ended");
        assert_eq!(of, topic, "{message}");
        message
    }

    /// Asks for a place for this content as the result of a job.
    pub(super) async fn ask(&self, topic: &str, token: &Value, content: &[u8], more: &Value) {
        let mut request = json!({
            "TaskToken": token, "Status": "UPLOAD", "Bytes": content.len(), "Sha256": super::sha256(content),
            "ContentType": "text/plain"
        });
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert!(self.publishes(topic, &request).await, "the broker refuses {topic}");
    }
}

/// A request to S3.
#[derive(Clone)]
pub(super) struct S3Request {
    pub(super) method: &'static str,
    pub(super) url: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl S3Request {
    /// The PUT that a command grants.
    pub(super) fn granted(command: &Value, content: &[u8]) -> Self {
        let headers = command["Headers"].as_object().unwrap().iter();
        let headers = headers.map(|(name, value)| (name.to_lowercase(), value.as_str().unwrap().to_owned()));
        let url = command["Url"].as_str().unwrap().to_owned();
        Self { method: "PUT", url, headers: headers.collect(), body: content.to_vec() }
    }

    /// The same request with another value of a header, or without the header.
    pub(super) fn with(mut self, name: &str, value: Option<&str>) -> Self {
        let before = self.headers.len();
        self.headers.retain(|(of, _)| of != name);
        assert_eq!(self.headers.len(), before - 1, "{name} is a header of the grant");
        self.headers.extend(value.map(|value| (name.to_owned(), value.to_owned())));
        self
    }

    /// Sends the request and returns the status.
    pub(super) async fn status(&self) -> u16 {
        let rest = self.url.strip_prefix("http://").unwrap();
        let (host, path) = rest.split_once('/').unwrap();
        let mut head = format!("{} /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n", self.method);
        let has_length = self.headers.iter().any(|(name, _)| name == "content-length");
        if !has_length {
            head += &format!("content-length: {}\r\n", self.body.len());
        }
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }

        let mut stream = TcpStream::connect(host).await.unwrap();
        stream.write_all(&[head.as_bytes(), b"\r\n", &self.body].concat()).await.unwrap();
        let mut response = Vec::new();
        timeout(TIMEOUT, stream.read_to_end(&mut response)).await.expect("S3 does not answer").unwrap();
        let response = String::from_utf8_lossy(&response);
        response.split(' ').nth(1).unwrap_or_else(|| panic!("not HTTP: {response}")).parse().unwrap()
    }
}
