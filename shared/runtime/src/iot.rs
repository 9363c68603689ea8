//! Publishes messages to AWS IoT Core with one signed request, without the SDK's client.
//!
//! A function whose main work is with another service stays small that way. The dispatcher, which sets the properties of
//! MQTT 5, uses the SDK.

use std::convert::Infallible;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::Full;

use crate::env::{Environment, InvalidVariable};
use crate::transport::{Client, client, domain, innermost};

/// The time limit of one attempt. Three attempts stay below the functions' own timeout.
const ATTEMPT: Duration = Duration::from_secs(3);
/// The number of attempts of one publish.
const ATTEMPTS: u32 = 3;
/// The pause before the second attempt, at least. The pause before the third is twice as long.
const PAUSE: Duration = Duration::from_millis(100);

/// Why a message was not published, after its attempts. The text does not contain the message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct PublishFailed {
    /// The HTTP status, or the innermost cause where no service answered.
    pub reason: String,
    /// Whether a later publish can succeed: the service throttled or failed, or did not answer.
    pub again: bool,
}

impl PublishFailed {
    fn at_once(reason: impl std::fmt::Display) -> Self {
        Self { reason: reason.to_string(), again: false }
    }

    fn again(reason: impl std::fmt::Display) -> Self {
        Self { reason: reason.to_string(), again: true }
    }
}

/// Publishes at QoS 1. A clone shares the pool of connections.
#[derive(Clone)]
pub struct Publisher {
    client: Client,
    endpoint: String,
    region: String,
    credentials: Credentials,
}

impl Publisher {
    /// A publisher with the Region, the credentials and the endpoint (`AWS_ENDPOINT_URL_IOT_DATA_PLANE`,
    /// `AWS_ENDPOINT_URL`) that Lambda sets for a function.
    pub fn from_env(environment: &Environment<'_>) -> Result<Self, InvalidVariable> {
        let text = |text: &str| Ok::<_, Infallible>(text.to_owned());
        let region = environment.required("AWS_REGION", "eu-west-1", text)?;
        let given = |name| {
            environment.parse_optional(name, "http://127.0.0.1:4566", |url| {
                url.parse::<Uri>().map(|_| url.to_owned())
            })
        };
        let endpoint = given("AWS_ENDPOINT_URL_IOT_DATA_PLANE")?
            .map_or_else(|| given("AWS_ENDPOINT_URL"), |url| Ok(Some(url)))?;
        let endpoint =
            endpoint.unwrap_or_else(|| format!("https://data-ats.iot.{region}.{}", domain(&region)));

        let key = environment.required("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE", text)?;
        let secret = environment.required("AWS_SECRET_ACCESS_KEY", "the-secret-of-the-key", text)?;
        let session = environment.parse_optional("AWS_SESSION_TOKEN", "the-token-of-the-session", text)?;
        let credentials = Credentials::new(key, secret, session, None, "environment");

        let tls = endpoint.starts_with("https");
        Ok(Self {
            client: client(tls),
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            region,
            credentials,
        })
    }

    /// Publishes a message, which the broker forgets after `expiry_seconds`.
    pub async fn publish(
        &self,
        topic: &str,
        payload: Vec<u8>,
        expiry_seconds: Option<u32>,
    ) -> Result<(), PublishFailed> {
        let payload = Bytes::from(payload);
        let mut attempts = 1;
        loop {
            let request = self.request(topic, &payload, expiry_seconds)?;
            match self.attempt(request).await {
                Err(failed) if failed.again && attempts < ATTEMPTS => {}
                done => return done,
            }

            let pause = PAUSE * attempts;
            tokio::time::sleep(pause + pause.mul_f64(fastrand::f64())).await;
            attempts += 1;
        }
    }

    async fn attempt(&self, request: Request<Full<Bytes>>) -> Result<(), PublishFailed> {
        let answer = tokio::time::timeout(ATTEMPT, self.client.request(request)).await;
        let answer = answer.map_err(|_| PublishFailed::again(format!("no answer within {ATTEMPT:?}")))?;
        let status = answer.map_err(|error| PublishFailed::again(innermost(&error)))?.status();

        let again = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
        match status {
            status if status.is_success() => Ok(()),
            status => Err(PublishFailed { reason: format!("HTTP {}", status.as_u16()), again }),
        }
    }

    /// The signed request.
    fn request(
        &self,
        topic: &str,
        payload: &Bytes,
        expiry_seconds: Option<u32>,
    ) -> Result<Request<Full<Bytes>>, PublishFailed> {
        let expiry = expiry_seconds.map_or_else(String::new, |seconds| format!("&messageExpiry={seconds}"));
        let uri = format!(
            "{}/topics/{}?contentType=application%2Fjson{expiry}&qos=1",
            self.endpoint,
            topic.replace('/', "%2F")
        );
        let mut request = Request::post(&uri).body(()).map_err(PublishFailed::at_once)?;

        let identity = self.credentials.clone().into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("iotdata")
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(PublishFailed::at_once)?
            .into();
        let headers = std::iter::empty();
        let signable = SignableRequest::new("POST", uri, headers, SignableBody::Bytes(payload));
        let signed = sign(signable.map_err(PublishFailed::at_once)?, &parameters);
        let (instructions, _) = signed.map_err(PublishFailed::at_once)?.into_parts();
        instructions.apply_to_request_http1x(&mut request);

        Ok(request.map(|()| Full::from(payload.clone())))
    }
}

#[cfg(test)]
mod tests {
    use postern_testing::StubServer;

    use super::*;

    fn publisher(url: &str) -> Publisher {
        let variables = [
            ("AWS_REGION", "eu-west-1"),
            ("AWS_ENDPOINT_URL", url),
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
        ];
        Publisher::from_env(&Environment::of(&variables)).unwrap()
    }

    #[tokio::test]
    async fn a_message_is_published_with_a_signed_request() {
        let stub = StubServer::answering(200, "");
        let publisher = publisher(&stub.url());
        publisher.publish("t/to/worker/w", b"{}".to_vec(), Some(60)).await.unwrap();

        let requests = stub.requests();
        let head = &requests[0].head;
        assert!(head.starts_with("post /topics/t%2fto%2fworker%2fw?"), "{head}");
        for part in
            ["qos=1", "messageexpiry=60", "contenttype=application%2fjson", "/eu-west-1/iotdata/aws4_request"]
        {
            assert!(head.contains(part), "{part} is not in\n{head}");
        }
        assert_eq!(requests[0].body, "{}");
    }

    #[tokio::test]
    async fn only_a_throttled_or_failed_publish_is_repeated() {
        for (status, attempts, again) in [(429, 3, true), (503, 3, true), (403, 1, false), (413, 1, false)] {
            let stub = StubServer::answering(status, "x");
            let failed = publisher(&stub.url()).publish("t", Vec::new(), None).await.unwrap_err();
            assert_eq!((stub.requests().len(), failed.again), (attempts, again), "{status}");
            assert_eq!(failed.to_string(), format!("HTTP {status}"));
        }
    }

    #[test]
    fn the_broker_of_a_region_has_the_address_that_aws_documents() {
        let variables =
            [("AWS_REGION", "eu-west-1"), ("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "secret")];
        let publisher = Publisher::from_env(&Environment::of(&variables)).unwrap();
        assert_eq!(publisher.endpoint, "https://data-ats.iot.eu-west-1.amazonaws.com");
    }
}
