//! The claim check for inputs: an input that is too large for a message, or that is in S3 already, is replaced by a
//! reference with a presigned URL. Nothing is published here.

use bytes::Bytes;
use postern_runtime::claim_check::{ClaimCheck, StorageError};
use postern_runtime::presign::Object;
use postern_types::limits::{IOT_PAYLOAD_BYTES, UPLOAD_BYTES};
use postern_types::{InputRef, JobId, JobMessage, ObjectRef, Sha256Sum, Tenant, input_key};
use sha2::{Digest as _, Sha256};

use crate::error::Error;

/// Whose input it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner<'a> {
    pub(crate) tenant: &'a Tenant,
    pub(crate) job_id: &'a JobId,
}

/// The message as JSON, with its input or with a reference to it.
pub(crate) async fn payload(
    claims: Option<&ClaimCheck>,
    owner: Owner<'_>,
    from: Option<&ObjectRef>,
    message: &mut JobMessage,
) -> Result<Vec<u8>, Error> {
    match (from, claims) {
        (Some(object), Some(claims)) => {
            message.input_ref = Some(refer(claims, owner, object).await?);
            message.input = None;
        }
        (Some(_), None) => {
            return Err(Error::InputFrom(
                "this stack has no claim check; deploy it with ClaimCheck=true".into(),
            ));
        }
        (None, _) => {}
    }

    let payload = serde_json::to_vec(message).unwrap_or_default();
    if payload.len() <= IOT_PAYLOAD_BYTES {
        return Ok(payload);
    }
    let Some(claims) = claims else { return Err(Error::PayloadTooLarge(payload.len())) };
    let Some(input) = message.input.take() else { return Err(Error::PayloadTooLarge(payload.len())) };

    message.input_ref = Some(store(claims, owner, input.get()).await?);
    let payload = serde_json::to_vec(message).unwrap_or_default();
    // The rest of the message is not bounded by the input: a progress to resume from may be large as well.
    if payload.len() > IOT_PAYLOAD_BYTES { Err(Error::PayloadTooLarge(payload.len())) } else { Ok(payload) }
}

/// Puts an input into the bucket.
async fn store(claims: &ClaimCheck, owner: Owner<'_>, input: &str) -> Result<InputRef, Error> {
    let sum = Sha256Sum::new(Sha256::digest(input).into());
    let key = input_key(owner.tenant, owner.job_id);
    claims.put(&key, Bytes::copy_from_slice(input.as_bytes()), sum.as_bytes()).await?;

    let object = Object { bucket: claims.bucket(), key: &key };
    let url = claims.download(object).map_err(StorageError::from)?;
    let (bytes, sha256) = (input.len() as u64, Some(sum.to_string()));
    tracing::info!(job_id = %owner.job_id, bytes, "the input is too large for a message: it is in S3");
    Ok(InputRef { bucket: claims.bucket().to_owned(), key, url, bytes, sha256 })
}

/// A reference to an object that is in S3 already. A note in the bucket keeps its name, so that the worker can have a new
/// URL of this object, and of no other one, when the first has expired.
async fn refer(claims: &ClaimCheck, owner: Owner<'_>, object: &ObjectRef) -> Result<InputRef, Error> {
    let ObjectRef { bucket, key } = object;
    if bucket == claims.bucket() && !key.starts_with(&format!("{}/", owner.tenant)) {
        let problem = format!("s3://{bucket}/{key} does not belong to the job's tenant, {}", owner.tenant);
        return Err(Error::InputFrom(problem));
    }

    let object = Object { bucket, key };
    let described = claims.describe(object).await.map_err(|error| match error {
        StorageError::Denied { .. } => Error::InputFrom(error.to_string()),
        other => other.into(),
    })?;
    if described.bytes > UPLOAD_BYTES {
        let problem =
            format!("s3://{bucket}/{key} has {} bytes; at most {UPLOAD_BYTES} are possible", described.bytes);
        return Err(Error::InputFrom(problem));
    }
    claims.refer(&input_key(owner.tenant, owner.job_id), object).await?;

    let url = claims.download(object).map_err(StorageError::from)?;
    let sha256 = described.sha256.map(|sum| Sha256Sum::new(sum).to_string());
    Ok(InputRef { bucket: bucket.clone(), key: key.clone(), url, bytes: described.bytes, sha256 })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http::{Request, Response};
    use postern_runtime::NamedError as _;
    use postern_runtime::env::Environment;
    use postern_testing::LoopbackServer;
    use postern_types::DispatchRequest;
    use serde_json::value::RawValue;
    use serde_json::{Value, json};

    use super::*;

    type Requests = Arc<Mutex<Vec<Request<Bytes>>>>;

    const SUM: &str = "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=";

    fn bucket(status: u16) -> (ClaimCheck, Requests) {
        let requests = Requests::default();
        let seen = Arc::clone(&requests);
        let server = LoopbackServer::start(move |request| {
            seen.lock().unwrap().push(request);
            let response = Response::builder().status(status).header("x-amz-checksum-sha256", SUM);
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

    async fn message(claims: Option<&ClaimCheck>, event: &Value) -> Result<Value, Error> {
        let event = RawValue::from_string(event.to_string()).unwrap();
        let mut request = DispatchRequest::parse(&event)?;
        let (from, job_id) = (request.job.input_from.take(), request.token.job_id());
        let tenant = Tenant::parse("tenant1").unwrap();

        let mut message = request.into_message(jiff::Timestamp::UNIX_EPOCH, None);
        let owner = Owner { tenant: &tenant, job_id: &job_id };
        let payload = payload(claims, owner, from.as_ref(), &mut message).await?;
        Ok(serde_json::from_slice(&payload).unwrap())
    }

    const INPUT_KEY: &str = "tenant1/inputs/ba7816bf8f01cfea414140de5dae2223";

    #[tokio::test]
    async fn an_input_that_fits_stays_in_the_message() {
        let (claims, requests) = bucket(200);
        let event = json!({"Input": "x".repeat(100_000), "TaskToken": "abc"});
        let message = message(Some(&claims), &event).await.unwrap();
        assert!(message["Input"].is_string() && message["InputRef"].is_null());
        assert!(requests.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_large_input_is_stored_under_the_tenant_and_the_job_and_the_message_refers_to_it() {
        let (claims, requests) = bucket(200);
        let event = json!({"Input": "x".repeat(140_000), "TaskToken": "abc"});
        let message = message(Some(&claims), &event).await.unwrap();

        let reference = &message["InputRef"];
        assert!(message.get("Input").is_none());
        assert_eq!((&reference["Bucket"], &reference["Key"]), (&json!("claims"), &json!(INPUT_KEY)));
        assert_eq!(reference["Bytes"], 140_002);
        let requests = requests.lock().unwrap();
        assert_eq!(
            (requests[0].method().as_str(), requests[0].uri().path()),
            ("PUT", &*format!("/claims/{INPUT_KEY}"))
        );
        assert_eq!(requests[0].body().len(), 140_002);
    }

    #[tokio::test]
    async fn an_object_is_referred_to_with_its_sum_and_a_note_keeps_its_name() {
        let (claims, requests) = bucket(200);
        let from = json!({"Bucket": "exports", "Key": "a.csv"});
        let event = json!({"TaskToken": "abc", "Job": {"InputFrom": from}});
        let reference = message(Some(&claims), &event).await.unwrap()["InputRef"].clone();

        assert_eq!((&reference["Bucket"], &reference["Key"]), (&json!("exports"), &json!("a.csv")));
        // printf abc | sha256sum
        let sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(reference["Sha256"], sum);
        assert!(reference["Url"].as_str().unwrap().contains("/exports/a.csv?"));
        let requests = requests.lock().unwrap();
        assert_eq!(requests[1].uri().path(), format!("/claims/{INPUT_KEY}"));
        assert_eq!(requests[1].headers()["x-amz-meta-from-bucket"], "exports");
    }

    /// The error's name and text of a job with this `InputFrom`.
    async fn refused(claims: Option<&ClaimCheck>, bucket: &str, key: &str) -> (&'static str, String) {
        let from = json!({"Bucket": bucket, "Key": key});
        let event = json!({"TaskToken": "abc", "Job": {"InputFrom": from}});
        let error = message(claims, &event).await.unwrap_err();
        (error.name(), error.to_string())
    }

    #[tokio::test]
    async fn what_cannot_be_an_input_is_an_invalid_input_that_says_why() {
        let (claims, requests) = bucket(200);
        let (name, cause) = refused(Some(&claims), "claims", "tenant2/abc").await;
        assert!(name == "Dispatcher.InvalidInput" && cause.contains("tenant1"), "{cause}");
        let (name, _) = refused(Some(&claims), "claims", "tenant10/abc").await;
        assert_eq!(name, "Dispatcher.InvalidInput", "another tenant whose name begins in the same way");
        assert!(requests.lock().unwrap().is_empty(), "nothing was asked of S3");

        let (name, cause) = refused(None, "exports", "a.csv").await;
        assert!(name == "Dispatcher.InvalidInput" && cause.contains("ClaimCheck=true"), "{cause}");
        let (name, cause) = refused(Some(&bucket(403).0), "exports", "a.csv").await;
        assert!(name == "Dispatcher.InvalidInput" && cause.contains("HTTP 403"), "{cause}");
    }

    #[tokio::test]
    async fn a_bucket_that_the_role_may_not_write_to_is_a_refusal() {
        let event = json!({"Input": "x".repeat(140_000), "TaskToken": "abc"});
        let error = message(Some(&bucket(403).0), &event).await.unwrap_err();
        assert_eq!(error.name(), "Dispatcher.PublishRefused");
    }

    #[tokio::test]
    async fn a_bucket_that_fails_can_be_tried_again_and_without_one_a_large_input_is_too_large() {
        assert_eq!(refused(Some(&bucket(503).0), "exports", "a.csv").await.0, "Dispatcher.PublishFailed");
        let event = json!({"Input": "x".repeat(140_000), "TaskToken": "abc"});
        assert_eq!(message(None, &event).await.unwrap_err().name(), "Dispatcher.PayloadTooLarge");
    }
}
