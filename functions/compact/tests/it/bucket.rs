//! A bucket in memory. Like S3, it checks the conditions of writes. It fails when a test tells it to.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use compact::{Condition, Error, Listed, Put, Store};
use fastrand::Rng;

/// An object: its content, its `ETag` and when it was written.
#[derive(Clone)]
struct Object {
    body: Bytes,
    etag: String,
    modified: i64,
}

/// How a request fails.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// Nothing happens, and the answer is an error.
    Lost,
    /// The write takes place, but the answer is an error.
    Hidden,
    /// The write takes place, but the answer says that its condition was not met, as for a retry of a hidden success.
    HiddenThenRefused,
    /// Nothing is written, and the answer says that another write is in progress.
    Conflict,
}

/// The bucket.
#[derive(Default)]
pub(crate) struct Memory {
    objects: RefCell<BTreeMap<String, Object>>,
    uploads: RefCell<BTreeMap<u64, Vec<u8>>>,
    versions: Cell<u64>,
    /// The time at which objects are written, in milliseconds since 1970.
    pub(crate) now: Cell<i64>,
    /// Draws faults; `None` if no request fails.
    faults: RefCell<Option<Rng>>,
    /// The number of requests until the process is killed.
    kill_in: Cell<Option<u64>>,
    /// Whether each request lets other runs take their turn first.
    pub(crate) takes_turns: Cell<bool>,
    pub(crate) requests: Cell<u64>,
}

impl Memory {
    /// From now on, a third of the requests fail.
    pub(crate) fn fail(&self, seed: Option<u64>) {
        *self.faults.borrow_mut() = seed.map(Rng::with_seed);
    }

    /// Kills the process at the request with this number: neither this nor any later one is answered, until
    /// [`Memory::restart`]. `None` never kills it.
    pub(crate) fn kill_in(&self, requests: Option<u64>) {
        self.kill_in.set(requests);
    }

    /// The object's content, for a reader that is not part of the faults.
    pub(crate) fn read(&self, key: &str) -> Option<Bytes> {
        self.objects.borrow().get(key).map(|object| object.body.clone())
    }

    /// Writes an object as msk-to-s3 does: it never overwrites one.
    pub(crate) fn write(&self, key: &str, body: Vec<u8>) {
        let (etag, modified) = (self.next_etag(), self.now.get());
        self.objects.borrow_mut().entry(key.to_owned()).or_insert(Object {
            body: body.into(),
            etag,
            modified,
        });
    }

    pub(crate) fn delete(&self, key: &str) {
        self.objects.borrow_mut().remove(key);
    }

    pub(crate) fn keys(&self, prefix: &str) -> Vec<String> {
        self.objects.borrow().keys().filter(|key| key.starts_with(prefix)).cloned().collect()
    }

    /// The number of uploads that were neither completed nor aborted.
    pub(crate) fn unfinished_uploads(&self) -> usize {
        self.uploads.borrow().len()
    }

    fn next_etag(&self) -> String {
        self.versions.set(self.versions.get() + 1);
        format!("\"{}\"", self.versions.get())
    }

    /// Counts a request, and draws how it fails. After a kill, no request is answered.
    async fn request(&self) -> Fault {
        if self.takes_turns.get() {
            YieldOnce(false).await;
        }

        self.requests.set(self.requests.get() + 1);
        match self.kill_in.get() {
            Some(0) => std::future::pending().await,
            Some(left) => self.kill_in.set(Some(left - 1)),
            None => {}
        }

        let mut faults = self.faults.borrow_mut();
        match faults.as_mut().map(|draw| draw.u8(0..30)) {
            Some(0..3) => Fault::Lost,
            Some(3..5) => Fault::Hidden,
            Some(5..7) => Fault::HiddenThenRefused,
            Some(7..9) => Fault::Conflict,
            _ => Fault::None,
        }
    }

    /// A request that writes nothing.
    async fn reading(&self) -> Result<(), Error> {
        match self.request().await {
            Fault::Lost => Err(Error::Throttled("SlowDown (HTTP 503)".into())),
            _ => Ok(()),
        }
    }

    /// A conditional write, `write`, with its faults.
    async fn writing(&self, write: impl FnOnce() -> Put) -> Result<Put, Error> {
        let error = Err(Error::Unavailable("InternalError (HTTP 500)".into()));
        let fault = self.request().await;
        match fault {
            Fault::Lost => return error,
            Fault::Conflict => return Ok(Put::Refused),
            _ => {}
        }

        let put = write();
        match fault {
            Fault::Hidden => error,
            Fault::HiddenThenRefused => Ok(Put::Refused),
            _ => Ok(put),
        }
    }

    fn put_if(&self, key: &str, body: Bytes, condition: Condition<'_>) -> Put {
        let etag = self.next_etag();
        let mut objects = self.objects.borrow_mut();
        let present = objects.get(key).map(|object| object.etag.as_str());
        let met = match condition {
            Condition::Absent => present.is_none(),
            Condition::Matches(etag) => present == Some(etag),
        };
        if !met {
            return Put::Refused;
        }
        objects.insert(key.to_owned(), Object { body, etag, modified: self.now.get() });
        Put::Written
    }
}

/// Is pending the first time that it is polled, so that the test can give the turn to another run.
struct YieldOnce(bool);

impl Future for YieldOnce {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Store for Memory {
    type Upload = (String, u64);

    async fn list(&self, prefix: &str) -> Result<Vec<Listed>, Error> {
        self.reading().await?;
        let objects = self.objects.borrow();
        let listed = objects.iter().filter(|(key, _)| key.starts_with(prefix));
        let listed = listed.map(|(key, object)| Listed {
            key: key.clone(),
            etag: object.etag.clone(),
            modified: object.modified,
        });
        Ok(listed.collect())
    }

    async fn folders(&self, prefix: &str) -> Result<Vec<String>, Error> {
        self.reading().await?;
        let objects = self.objects.borrow();
        let rest = objects.keys().filter_map(|key| key.strip_prefix(prefix)?.split_once('/'));
        let mut folders: Vec<String> = rest.map(|(folder, _)| folder.to_owned()).collect();
        folders.dedup();
        Ok(folders)
    }

    async fn get(&self, key: &str) -> Result<Option<(Bytes, String)>, Error> {
        self.reading().await?;
        Ok(self.objects.borrow().get(key).map(|object| (object.body.clone(), object.etag.clone())))
    }

    async fn put(&self, key: &str, body: Bytes, condition: Condition<'_>) -> Result<Put, Error> {
        self.writing(|| self.put_if(key, body, condition)).await
    }

    async fn exists(&self, key: &str) -> Result<bool, Error> {
        self.reading().await?;
        Ok(self.objects.borrow().contains_key(key))
    }

    async fn begin(&self, key: &str) -> Result<(String, u64), Error> {
        self.reading().await?;
        let id = self.requests.get();
        self.uploads.borrow_mut().insert(id, Vec::new());
        Ok((key.to_owned(), id))
    }

    async fn part(&self, upload: &mut (String, u64), body: Bytes) -> Result<(), Error> {
        self.reading().await?;
        self.uploads.borrow_mut().get_mut(&upload.1).unwrap().extend_from_slice(&body);
        Ok(())
    }

    async fn complete(&self, upload: (String, u64)) -> Result<Put, Error> {
        self.writing(|| {
            let Some(body) = self.uploads.borrow_mut().remove(&upload.1) else { return Put::Refused };
            self.put_if(&upload.0, body.into(), Condition::Absent)
        })
        .await
    }

    async fn abort(&self, upload: (String, u64)) -> Result<(), Error> {
        self.reading().await?;
        self.uploads.borrow_mut().remove(&upload.1);
        Ok(())
    }
}
