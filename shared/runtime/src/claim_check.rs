//! The bucket of the claim check (`CLAIM_CHECK_BUCKET`): presigned URLs for workers, and the two requests that functions
//! send themselves.
//!
//! A function sends its own requests by presigned URLs too, so that there is one way of signing. The module knows
//! nothing of jobs; the keys come from the caller.

use std::convert::Infallible;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::Full;

use crate::env::{Environment, InvalidVariable};
use crate::presign::{Object, PresignError, Presigner};
use crate::transport::{Client, client, innermost};

/// The time limit of one attempt. Three attempts stay below the functions' own timeout.
const ATTEMPT: Duration = Duration::from_secs(3);
/// The number of attempts of one request.
const ATTEMPTS: u32 = 3;
/// The pause before the second attempt, at least. The pause before the third is twice as long.
const PAUSE: Duration = Duration::from_millis(100);

/// The header with the SHA-256 of an object.
const CHECKSUM: &str = "x-amz-checksum-sha256";
/// The metadata that say that an object only names another one.
const FROM: [&str; 2] = ["x-amz-meta-from-bucket", "x-amz-meta-from-key"];

/// Why a request to S3 failed, after its attempts. The text contains neither the URL nor the content.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The role may not use the object, or the object is not there: S3 does not tell a role without `s3:ListBucket`
    /// which of the two it is.
    #[error("s3://{bucket}/{key}: it does not exist, or the function's role may not use it (HTTP {status})")]
    Denied {
        /// The bucket's name.
        bucket: String,
        /// The object's key.
        key: String,
        /// S3's HTTP status.
        status: u16,
    },
    /// S3 throttled or failed, or did not answer. A later request can succeed.
    #[error("s3://{bucket}/{key}: {reason}")]
    Unavailable {
        /// The bucket's name.
        bucket: String,
        /// The object's key.
        key: String,
        /// The HTTP status, or the innermost cause.
        reason: String,
    },
    /// The request cannot be signed.
    #[error(transparent)]
    Presign(#[from] PresignError),
}

/// What S3 says of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// The size in bytes.
    pub bytes: u64,
    /// The SHA-256 of the content, if the object was stored with it.
    pub sha256: Option<[u8; 32]>,
    /// The bucket and the key of the object that this one stands for, if it has no content of its own.
    pub from: Option<(String, String)>,
}

/// An upload that the holder of the URL may make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// The presigned URL, for a PUT.
    pub url: String,
    /// The headers that the PUT must have, all of them signed.
    pub headers: Vec<(String, String)>,
}

/// The bucket, and the client for the functions' own requests.
pub struct ClaimCheck {
    bucket: String,
    presigner: Presigner,
    client: Client,
}

impl ClaimCheck {
    /// The bucket that `CLAIM_CHECK_BUCKET` names. `None` if the variable is not set.
    pub fn from_env(environment: &Environment<'_>) -> Result<Option<Self>, InvalidVariable> {
        let text = |text: &str| Ok::<_, Infallible>(text.to_owned());
        let bucket = environment.parse_optional("CLAIM_CHECK_BUCKET", "my-claim-check", text)?;
        let Some(bucket) = bucket else { return Ok(None) };
        let presigner = Presigner::from_env(environment)?;

        let client = client(presigner.uses_tls());
        Ok(Some(Self { bucket, presigner, client }))
    }

    /// The bucket's name.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// A PUT of exactly this content. S3 refuses any other length and any other SHA-256.
    pub fn upload(
        &self,
        key: &str,
        bytes: u64,
        sha256: &[u8; 32],
        content_type: &str,
    ) -> Result<Upload, PresignError> {
        let headers = [
            ("content-length", bytes.to_string()),
            ("content-type", content_type.to_owned()),
            (CHECKSUM, BASE64.encode(sha256)),
        ];
        let headers: Vec<_> = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();

        let object = Object { bucket: &self.bucket, key };
        let url = self.presigner.url("PUT", object, &headers, SystemTime::now())?;
        Ok(Upload { url: url.to_string(), headers })
    }

    /// A GET of an object, without any header.
    pub fn download(&self, object: Object<'_>) -> Result<String, PresignError> {
        self.presigner.url("GET", object, &[], SystemTime::now()).map(|url| url.to_string())
    }

    /// Stores a small object with its SHA-256.
    pub async fn put(&self, key: &str, content: Bytes, sha256: &[u8; 32]) -> Result<(), StorageError> {
        let headers = vec![
            ("content-type".to_owned(), "application/json".to_owned()),
            (CHECKSUM.to_owned(), BASE64.encode(sha256)),
        ];
        self.send(Method::PUT, Object { bucket: &self.bucket, key }, headers, content).await.map(|_| ())
    }

    /// Stores an empty object that stands for another one.
    pub async fn refer(&self, key: &str, to: Object<'_>) -> Result<(), StorageError> {
        // Metadata is ASCII; a key can contain any character.
        let values = [to.bucket.to_owned(), BASE64.encode(to.key)];
        let headers = FROM.into_iter().map(str::to_owned).zip(values).collect();
        self.send(Method::PUT, Object { bucket: &self.bucket, key }, headers, Bytes::new()).await.map(|_| ())
    }

    /// The size and the SHA-256 of an object.
    pub async fn describe(&self, object: Object<'_>) -> Result<Description, StorageError> {
        let headers = self.send(Method::HEAD, object, Vec::new(), Bytes::new()).await?;
        Ok(description(&headers))
    }

    /// Sends a request until S3 takes or refuses it. Returns the headers of the answer.
    async fn send(
        &self,
        method: Method,
        object: Object<'_>,
        headers: Vec<(String, String)>,
        body: Bytes,
    ) -> Result<HeaderMap, StorageError> {
        let mut attempts = 1;
        loop {
            let url = match method {
                Method::HEAD => self.presigner.description_url(object, SystemTime::now())?,
                _ => self.presigner.url(method.as_str(), object, &headers, SystemTime::now())?,
            };
            let mut request = Request::builder().method(method.clone()).uri(url);
            for (name, value) in &headers {
                request = request.header(name, value);
            }

            let reason = match request.body(Full::new(body.clone())) {
                Ok(request) => match self.attempt(request).await {
                    Ok((status, headers)) if status.is_success() => return Ok(headers),
                    Ok((status, _)) if refuses(status) => return Err(denied(object, status)),
                    Ok((status, _)) => format!("HTTP {}", status.as_u16()),
                    Err(reason) => reason,
                },
                Err(error) => error.to_string(),
            };
            if attempts == ATTEMPTS {
                let (bucket, key) = (object.bucket.to_owned(), object.key.to_owned());
                return Err(StorageError::Unavailable { bucket, key, reason });
            }

            let pause = PAUSE * attempts;
            tokio::time::sleep(pause + pause.mul_f64(fastrand::f64())).await;
            attempts += 1;
        }
    }

    async fn attempt(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, HeaderMap), String> {
        let answer = tokio::time::timeout(ATTEMPT, self.client.request(request)).await;
        let answer = answer.map_err(|_| format!("no answer within {ATTEMPT:?}"))?;
        let (parts, _) = answer.map_err(|error| innermost(&error))?.into_parts();
        Ok((parts.status, parts.headers))
    }
}

/// Whether another attempt would end in the same way.
fn refuses(status: StatusCode) -> bool {
    status.is_client_error()
        && status != StatusCode::TOO_MANY_REQUESTS
        && status != StatusCode::REQUEST_TIMEOUT
}

fn denied(object: Object<'_>, status: StatusCode) -> StorageError {
    let (bucket, key) = (object.bucket.to_owned(), object.key.to_owned());
    StorageError::Denied { bucket, key, status: status.as_u16() }
}

fn description(headers: &HeaderMap) -> Description {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let decoded = |value: &str| BASE64.decode(value).ok();
    // The checksum of an object of several parts is that of the parts' checksums.
    let sha256 = text(CHECKSUM).and_then(decoded).and_then(|sum| sum.try_into().ok());
    let from = text(FROM[0]).zip(text(FROM[1]).and_then(decoded));

    Description {
        bytes: text("content-length").and_then(|bytes| bytes.parse().ok()).unwrap_or(0),
        sha256,
        from: from.and_then(|(bucket, key)| Some((bucket.to_owned(), String::from_utf8(key).ok()?))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http::Response;
    use postern_testing::LoopbackServer;

    use super::*;

    type Requests = Arc<Mutex<Vec<Request<Bytes>>>>;

    /// A claim check whose S3 gives these answers, one after the other and the last one again and again.
    fn claim_check(
        answers: &'static [(u16, &'static [(&'static str, &'static str)])],
    ) -> (ClaimCheck, Requests) {
        let requests = Requests::default();
        let seen = Arc::clone(&requests);
        let server = LoopbackServer::start(move |request| {
            let mut seen = seen.lock().unwrap();
            let (status, headers) = answers[seen.len().min(answers.len() - 1)];
            seen.push(request);

            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(*name, *value);
            }
            response.body(Bytes::new()).unwrap()
        });

        let url = server.url();
        let variables = [
            ("AWS_REGION", "eu-west-1"),
            ("AWS_ENDPOINT_URL", &*url),
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("CLAIM_CHECK_BUCKET", "claims"),
        ];
        (ClaimCheck::from_env(&Environment::of(&variables)).unwrap().unwrap(), requests)
    }

    const OBJECT: Object<'_> = Object { bucket: "exports", key: "2026/ä.csv" };

    #[test]
    fn without_a_bucket_there_is_no_claim_check() {
        assert!(ClaimCheck::from_env(&Environment::of(&[])).unwrap().is_none());
    }

    #[tokio::test]
    async fn an_object_is_described_by_the_headers_of_s3() {
        let sum = "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=";
        let (claims, requests) = claim_check(&[(
            200,
            &[("x-amz-checksum-sha256", "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=")],
        )]);
        let described = claims.describe(OBJECT).await.unwrap();
        assert_eq!(BASE64.encode(described.sha256.unwrap()), sum);
        assert_eq!(described.from, None);

        let request = &requests.lock().unwrap()[0];
        assert_eq!((request.method(), request.uri().path()), (&Method::HEAD, "/exports/2026/%C3%A4.csv"));
        let query = request.uri().query().unwrap();
        assert!(query.starts_with("x-amz-checksum-mode=ENABLED&"), "{query}");
        assert!(query.contains("X-Amz-SignedHeaders=host&"), "{query}");
        assert!(
            !request.headers().keys().any(|name| name.as_str().starts_with("x-amz-")),
            "all of them must be signed"
        );
    }

    #[tokio::test]
    async fn a_note_names_the_object_that_it_stands_for() {
        let (claims, requests) = claim_check(&[(200, &[])]);
        claims.refer("t/inputs/abc", OBJECT).await.unwrap();
        let stored = requests.lock().unwrap()[0].headers().clone();
        assert_eq!(description(&stored).from, Some(("exports".into(), "2026/ä.csv".into())));
    }

    #[tokio::test]
    async fn a_throttled_request_is_repeated_and_a_refused_one_is_not() {
        let (claims, requests) = claim_check(&[(503, &[]), (429, &[]), (200, &[])]);
        claims.put("t/inputs/abc", Bytes::from_static(b"abc"), &[7; 32]).await.unwrap();
        assert_eq!(requests.lock().unwrap().len(), 3);
        assert_eq!(requests.lock().unwrap()[2].body(), "abc");

        let (claims, requests) = claim_check(&[(403, &[])]);
        let error = claims.describe(OBJECT).await.unwrap_err();
        assert!(matches!(error, StorageError::Denied { status: 403, .. }), "{error}");
        assert_eq!(requests.lock().unwrap().len(), 1);

        let (claims, _) = claim_check(&[(500, &[])]);
        let error = claims.describe(OBJECT).await.unwrap_err();
        assert_eq!(error.to_string(), "s3://exports/2026/ä.csv: HTTP 500");
    }

    #[test]
    fn the_checksum_of_an_object_of_several_parts_is_not_its_sha256() {
        let mut headers = HeaderMap::new();
        headers.insert(CHECKSUM, "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=-2".parse().unwrap());
        assert_eq!(description(&headers).sha256, None);
    }
}
