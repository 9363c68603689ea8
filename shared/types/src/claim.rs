//! Where a large input or result is kept: the claim check. The objects themselves travel over HTTPS, never over MQTT.

use serde::{Deserialize, Serialize};

use crate::token::JobId;
use crate::topic::Tenant;

/// An input that is kept in S3, in the place of a job's `Input`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct InputRef {
    /// The bucket.
    pub bucket: String,
    /// The key in the bucket.
    pub key: String,
    /// A presigned URL that reads the object for a limited time. It is a credential and is never logged.
    pub url: String,
    /// The object's size.
    pub bytes: u64,
    /// The object's SHA-256, in lower-case hexadecimal digits. Absent for an object that was stored without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

impl std::fmt::Debug for InputRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { bucket, key, bytes, sha256, .. } = self;
        f.debug_struct("InputRef")
            .field("bucket", bucket)
            .field("key", key)
            .field("bytes", bytes)
            .field("sha256", sha256)
            .finish_non_exhaustive()
    }
}

/// An object in S3.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ObjectRef {
    /// The bucket.
    pub bucket: String,
    /// The key in the bucket.
    pub key: String,
}

/// A worker's request to put a large result into S3.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UploadRequest {
    /// The result's size.
    pub bytes: u64,
    /// The result's SHA-256, in lower-case hexadecimal digits.
    pub sha256: String,
    /// The result's content type.
    pub content_type: String,
}

/// A result that is kept in S3, in the place of an answer's `result`. It is a part of the task's output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ResultRef {
    /// The bucket.
    pub bucket: String,
    /// The key in the bucket.
    pub key: String,
    /// The object's size.
    pub bytes: u64,
    /// The object's SHA-256, in lower-case hexadecimal digits.
    pub sha256: String,
    /// The object's content type.
    pub content_type: String,
}

/// The key of a job's result. No other job, and no other tenant, has it.
pub fn result_key(tenant: &Tenant, job_id: &JobId) -> String {
    format!("{tenant}/{job_id}")
}

/// The key of a job's input, or of the note that says where the input is.
pub fn input_key(tenant: &Tenant, job_id: &JobId) -> String {
    format!("{tenant}/inputs/{job_id}")
}
