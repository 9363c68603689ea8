//! Writes objects to S3, and maps S3's errors to the function's.

use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::primitives::ByteStream;
use postern_runtime::NamedError;
use postern_runtime::aws::{Failure, failure};

use crate::event::InvalidEvent;
use crate::object::Object;

/// Why a batch failed. The function raises the error, and the event source mapping sends the whole batch again. Objects
/// that were written in the failed attempt are found and left as they are.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The invocation's payload is not an event of a Kafka event source mapping.
    #[error(transparent)]
    InvalidEvent(#[from] InvalidEvent),
    /// S3 throttled the request.
    #[error("S3 throttled the request: {0}")]
    Throttled(String),
    /// S3 could not be reached, or failed with a 5xx status.
    #[error("S3 is unavailable: {0}")]
    Unavailable(String),
    /// S3 denied the write.
    #[error("S3 denied the write; check the function's role, the bucket policy and the KMS key policy: {0}")]
    AccessDenied(String),
    /// The bucket does not exist.
    #[error("the bucket named by S3_BUCKET_NAME does not exist: {0}")]
    NoSuchBucket(String),
    /// S3 rejected the object for another reason.
    #[error("S3 rejected the object: {0}")]
    Refused(String),
    /// The object could not be compressed.
    #[error("the object could not be compressed: {0}")]
    Compression(#[from] std::io::Error),
}

impl NamedError for Error {
    fn name(&self) -> &'static str {
        match self {
            Self::InvalidEvent(_) => "MskToS3.InvalidEvent",
            Self::Throttled(_) => "MskToS3.Throttled",
            Self::Unavailable(_) => "MskToS3.Unavailable",
            Self::AccessDenied(_) => "MskToS3.AccessDenied",
            Self::NoSuchBucket(_) => "MskToS3.NoSuchBucket",
            Self::Refused(_) => "MskToS3.Refused",
            Self::Compression(_) => "MskToS3.Compression",
        }
    }
}

/// The outcome of a successful write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The object was written.
    Written,
    /// An object with this key exists: an earlier attempt wrote the same records.
    Existed,
}

/// The part of S3 that the handler needs.
pub trait Store {
    /// Writes the object unless one with its key exists. An existing object is never overwritten.
    fn put(&self, object: Object) -> impl Future<Output = Result<Put, Error>>;
}

/// A bucket in S3.
#[derive(Debug, Clone)]
pub struct Bucket {
    s3: aws_sdk_s3::Client,
    name: String,
}

impl Bucket {
    /// The bucket `name`, accessed with the client `s3`.
    pub fn new(s3: aws_sdk_s3::Client, name: &str) -> Self {
        Self { s3, name: name.to_owned() }
    }
}

impl Store for Bucket {
    async fn put(&self, object: Object) -> Result<Put, Error> {
        let Object { key, content_type, body } = object;
        let put =
            self.s3.put_object().bucket(&self.name).key(key).content_type(content_type).if_none_match("*");
        let Err(error) = put.body(ByteStream::from(body)).send().await else { return Ok(Put::Written) };

        let (kind, reason) = failure(&error);
        let status = error.raw_response().map_or(0, |response| response.status().as_u16());
        Err(match (error.code(), kind) {
            (Some("PreconditionFailed"), _) => return Ok(Put::Existed),
            _ if status == 412 => return Ok(Put::Existed),
            (Some("NoSuchBucket"), _) => Error::NoSuchBucket(reason),
            // Another write of the same key is in progress, or the request's body arrived too slowly.
            (Some("ConditionalRequestConflict" | "OperationAborted" | "RequestTimeout"), _) => {
                Error::Unavailable(reason)
            }
            (_, Failure::Throttled) => Error::Throttled(reason),
            (_, Failure::Unavailable) => Error::Unavailable(reason),
            (_, Failure::Denied) => Error::AccessDenied(reason),
            (_, Failure::TooLarge | Failure::Refused) => Error::Refused(reason),
        })
    }
}
