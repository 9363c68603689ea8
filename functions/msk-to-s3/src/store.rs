//! Where objects go.

use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::primitives::ByteStream;
use postern_runtime::NamedError;
use postern_runtime::aws::{Failure, failure};

use crate::event::InvalidEvent;
use crate::object::Object;

/// Everything that can go wrong with a batch. Each is raised: the event source mapping then sends the whole batch
/// again, and what was written before is found and left as it is.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not a Kafka event.
    #[error("{0}")]
    InvalidEvent(#[from] InvalidEvent),
    /// S3 is asked too much.
    #[error("S3 asks for fewer requests: {0}")]
    Throttled(String),
    /// S3 is down or out of reach.
    #[error("S3 cannot be reached: {0}")]
    Unavailable(String),
    /// The role or the bucket's policy says no.
    #[error("the function's role, the bucket's policy or its key does not allow the write: {0}")]
    AccessDenied(String),
    /// The bucket is not there.
    #[error("the bucket of S3_BUCKET_NAME does not exist: {0}")]
    NoSuchBucket(String),
    /// S3 does not take the object.
    #[error("S3 did not take the object: {0}")]
    Refused(String),
    /// The object could not be compressed.
    #[error("the object cannot be compressed: {0}")]
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

/// How an object came to be in the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It was written.
    Written,
    /// An earlier attempt had written it.
    Existed,
}

/// What the handler needs of S3.
pub trait Store {
    /// Writes the object unless there is one of this key: it is never overwritten.
    fn put(&self, object: Object) -> impl Future<Output = Result<Put, Error>>;
}

/// A bucket.
#[derive(Debug, Clone)]
pub struct Bucket {
    s3: aws_sdk_s3::Client,
    name: String,
}

impl Bucket {
    /// The bucket of this name.
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
            // Another write of the same key is under way, or the request's body came too slowly.
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
