//! S3 as compaction's store, and the meaning of its errors.

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use bytes::Bytes;
use postern_runtime::aws::{Failure, failure};

use crate::error::Error;
use crate::store::{Condition, Listed, Put, Store};

/// The number of times that an object whose body breaks off is read again.
const READS: u32 = 3;

/// A bucket in S3.
#[derive(Debug, Clone)]
pub struct Bucket {
    s3: Client,
    name: String,
}

/// An upload in parts.
#[derive(Debug)]
pub struct Parts {
    key: String,
    id: String,
    parts: Vec<CompletedPart>,
}

impl Bucket {
    /// The bucket `name`, accessed with the client `s3`.
    pub fn new(s3: Client, name: &str) -> Self {
        Self { s3, name: name.to_owned() }
    }

    /// Reads an object. `Ok(None)`: it does not exist. `Err`: the request failed, or the body broke off.
    async fn read(&self, key: &str) -> Result<Option<(Bytes, String)>, Error> {
        let object = match self.s3.get_object().bucket(&self.name).key(key).send().await {
            Ok(object) => object,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(error_of(&error)),
        };

        let etag = object.e_tag.unwrap_or_default();
        let body = object
            .body
            .collect()
            .await
            .map_err(|error| Error::Unavailable(format!("the body broke off: {error}")))?;
        Ok(Some((body.into_bytes(), etag)))
    }
}

impl Store for Bucket {
    type Upload = Parts;

    async fn list(&self, prefix: &str) -> Result<Vec<Listed>, Error> {
        let mut listed = Vec::new();
        let mut pages = self.s3.list_objects_v2().bucket(&self.name).prefix(prefix).into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| error_of(&error))?;
            listed.extend(page.contents.unwrap_or_default().into_iter().filter_map(|object| {
                let modified = object.last_modified?.to_millis().ok()?;
                Some(Listed { key: object.key?, etag: object.e_tag?, modified })
            }));
        }
        Ok(listed)
    }

    async fn folders(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let mut folders = Vec::new();
        let list = self.s3.list_objects_v2().bucket(&self.name).prefix(prefix).delimiter("/");
        let mut pages = list.into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| error_of(&error))?;
            let names =
                page.common_prefixes.unwrap_or_default().into_iter().filter_map(|folder| folder.prefix);
            folders.extend(
                names.filter_map(|name| Some(name.strip_prefix(prefix)?.trim_end_matches('/').to_owned())),
            );
        }
        Ok(folders)
    }

    async fn get(&self, key: &str) -> Result<Option<(Bytes, String)>, Error> {
        let mut reads = 1;
        loop {
            match self.read(key).await {
                Err(Error::Unavailable(_)) if reads < READS => reads += 1,
                outcome => return outcome,
            }
        }
    }

    async fn put(&self, key: &str, body: Bytes, condition: Condition<'_>) -> Result<Put, Error> {
        let put = self.s3.put_object().bucket(&self.name).key(key).body(ByteStream::from(body));
        let put = match condition {
            Condition::Absent => put.if_none_match("*"),
            Condition::Matches(etag) => put.if_match(etag),
        };
        put.send().await.map_or_else(|error| refused(&error), |_| Ok(Put::Written))
    }

    async fn exists(&self, key: &str) -> Result<bool, Error> {
        match self.s3.head_object().bucket(&self.name).key(key).send().await {
            Ok(_) => Ok(true),
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) => Err(error_of(&error)),
        }
    }

    async fn begin(&self, key: &str) -> Result<Parts, Error> {
        let upload = self.s3.create_multipart_upload().bucket(&self.name).key(key).send().await;
        let upload = upload.map_err(|error| error_of(&error))?;
        Ok(Parts { key: key.to_owned(), id: upload.upload_id.unwrap_or_default(), parts: Vec::new() })
    }

    async fn part(&self, upload: &mut Parts, body: Bytes) -> Result<(), Error> {
        let number = i32::try_from(upload.parts.len() + 1).unwrap_or(i32::MAX);
        let part = self.s3.upload_part().bucket(&self.name).key(&upload.key).upload_id(&upload.id);
        let part = part.part_number(number).body(ByteStream::from(body)).send().await;
        let part = part.map_err(|error| error_of(&error))?;

        let completed = CompletedPart::builder().part_number(number).set_e_tag(part.e_tag);
        upload.parts.push(completed.set_checksum_crc32(part.checksum_crc32).build());
        Ok(())
    }

    async fn complete(&self, upload: Parts) -> Result<Put, Error> {
        let Parts { key, id, parts } = upload;
        let list = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let complete = self.s3.complete_multipart_upload().bucket(&self.name).key(&key).upload_id(&id);
        let outcome = match complete.multipart_upload(list).if_none_match("*").send().await {
            Ok(_) => return Ok(Put::Written),
            // The upload was completed, and the answer was lost.
            Err(error) if error.code() == Some("NoSuchUpload") => return Ok(Put::Refused),
            Err(error) => refused(&error),
        };

        // An upload that S3 has refused keeps its parts, and the bucket's owner pays for them.
        let unused = Parts { key, id, parts: Vec::new() };
        if let Err(error) = self.abort(unused).await {
            tracing::warn!(reason = %error, "the parts of a refused upload could not be deleted");
        }
        outcome
    }

    async fn abort(&self, upload: Parts) -> Result<(), Error> {
        let abort = self.s3.abort_multipart_upload().bucket(&self.name).key(upload.key).upload_id(upload.id);
        abort.send().await.map(|_| ()).map_err(|error| error_of(&error))
    }
}

fn status<E>(error: &SdkError<E, HttpResponse>) -> u16 {
    error.raw_response().map_or(0, |response| response.status().as_u16())
}

fn is_missing<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    status(error) == 404 && error.code() != Some("NoSuchBucket")
}

/// The outcome of a conditional write that failed.
fn refused<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Result<Put, Error> {
    match (status(error), error.code()) {
        (412, _) | (409, Some("ConditionalRequestConflict")) => Ok(Put::Refused),
        _ => Err(error_of(error)),
    }
}

fn error_of<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Error {
    let (kind, reason) = failure(error);
    match kind {
        _ if matches!(error.code(), Some("RequestTimeout" | "OperationAborted")) => {
            Error::Unavailable(reason)
        }
        Failure::Throttled => Error::Throttled(reason),
        Failure::Unavailable => Error::Unavailable(reason),
        Failure::Denied => Error::AccessDenied(reason),
        Failure::TooLarge | Failure::Refused => Error::Refused(reason),
    }
}
