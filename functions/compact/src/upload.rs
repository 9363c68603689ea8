//! Uploads an object of the table: at once if it is small, else in parts, so that memory does not grow with its size.

use bytes::Bytes;

use crate::error::Error;
use crate::store::{Condition, Put, Store};

/// The size of a part. S3 takes 5 MB or more, and 10,000 parts.
const PART_BYTES: usize = 16 << 20;

/// An object while it is uploaded.
pub(crate) struct Upload<'s, S: Store> {
    store: &'s S,
    key: String,
    waiting: Vec<u8>,
    parts: Option<S::Upload>,
}

impl<'s, S: Store> Upload<'s, S> {
    pub(crate) fn new(store: &'s S, key: &str) -> Self {
        Self { store, key: key.to_owned(), waiting: Vec::new(), parts: None }
    }

    /// Adds bytes to the object.
    pub(crate) async fn push(&mut self, bytes: Vec<u8>) -> Result<(), Error> {
        if self.waiting.is_empty() {
            self.waiting = bytes;
        } else {
            self.waiting.extend_from_slice(&bytes);
        }
        if self.waiting.len() < PART_BYTES {
            return Ok(());
        }

        if self.parts.is_none() {
            self.parts = Some(self.store.begin(&self.key).await?);
        }
        if let Some(parts) = &mut self.parts {
            let part = Bytes::from(std::mem::take(&mut self.waiting));
            self.store.part(parts, part).await?;
        }
        Ok(())
    }

    /// Creates the object. If it exists, another run of the same plan has written the same rows.
    pub(crate) async fn finish(mut self) -> Result<(), Error> {
        let rest = Bytes::from(self.waiting);
        let put = match self.parts.take() {
            None => self.store.put(&self.key, rest, Condition::Absent).await?,
            Some(mut parts) => {
                if !rest.is_empty() {
                    self.store.part(&mut parts, rest).await?;
                }
                self.store.complete(parts).await?
            }
        };

        // A refusal can mean that another write is in progress (HTTP 409), which may still fail.
        if put == Put::Written || self.store.exists(&self.key).await? {
            return Ok(());
        }
        Err(Error::Unavailable(format!("another write of {} is in progress", self.key)))
    }

    /// Deletes what was uploaded of an object that is not finished. A failure leaves parts that no reader sees, and that
    /// the bucket's lifecycle rule deletes.
    pub(crate) async fn abort(self) {
        if let Some(parts) = self.parts
            && let Err(error) = self.store.abort(parts).await
        {
            tracing::warn!(key = self.key, reason = %error, "the parts of an upload could not be deleted");
        }
    }
}
