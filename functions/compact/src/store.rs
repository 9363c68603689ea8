//! What compaction needs from S3.

use bytes::Bytes;

use crate::error::Error;

/// An object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The key.
    pub key: String,
    /// The `ETag`, with its quotes.
    pub etag: String,
    /// When the object was written, in milliseconds since 1970.
    pub modified: i64,
}

/// The condition of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition<'e> {
    /// `If-None-Match: *`: no object with the key exists.
    Absent,
    /// `If-Match`: the object has this `ETag`.
    Matches(&'e str),
}

impl<'e> Condition<'e> {
    /// The condition that the object is unchanged since it was read with this `ETag`, or since it did not exist.
    pub fn unchanged(etag: Option<&'e str>) -> Self {
        etag.map_or(Self::Absent, Self::Matches)
    }
}

/// The outcome of a conditional write that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The object was written.
    Written,
    /// The condition was not met (HTTP 412), or another write of the key was in progress (HTTP 409).
    Refused,
}

/// The part of S3 that compaction needs. Every write is conditional.
pub trait Store {
    /// An upload in parts that has begun.
    type Upload;

    /// Lists every object under a prefix, in the order of the keys.
    fn list(&self, prefix: &str) -> impl Future<Output = Result<Vec<Listed>, Error>>;

    /// The names of the folders directly under a prefix, without slashes.
    fn folders(&self, prefix: &str) -> impl Future<Output = Result<Vec<String>, Error>>;

    /// Reads an object with its `ETag`; `None` if it does not exist.
    fn get(&self, key: &str) -> impl Future<Output = Result<Option<(Bytes, String)>, Error>>;

    /// Writes an object if the condition is met.
    fn put(
        &self,
        key: &str,
        body: Bytes,
        condition: Condition<'_>,
    ) -> impl Future<Output = Result<Put, Error>>;

    /// Whether an object exists.
    fn exists(&self, key: &str) -> impl Future<Output = Result<bool, Error>>;

    /// Begins an upload in parts. The object does not exist before [`Store::complete`].
    fn begin(&self, key: &str) -> impl Future<Output = Result<Self::Upload, Error>>;

    /// Uploads the next part. Every part except the last has at least 5 MB.
    fn part(&self, upload: &mut Self::Upload, body: Bytes) -> impl Future<Output = Result<(), Error>>;

    /// Creates the object from its parts if no object with its key exists.
    fn complete(&self, upload: Self::Upload) -> impl Future<Output = Result<Put, Error>>;

    /// Deletes the parts of an upload.
    fn abort(&self, upload: Self::Upload) -> impl Future<Output = Result<(), Error>>;
}
