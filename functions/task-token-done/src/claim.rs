//! The claim check for results: a worker that asks for an upload or a download gets a presigned URL on its own topic, and
//! no other worker gets it.
//!
//! The tenant and the worker are those that the IoT rule has stamped, and the job is that of the task token, so that a
//! worker cannot ask for the objects of another tenant or another job.

use postern_runtime::claim_check::{ClaimCheck, Description, StorageError};
use postern_runtime::iot::Publisher;
use postern_runtime::presign::{Object, VALIDITY};
use postern_types::limits::UPLOAD_BYTES;
use postern_types::{
    Answer, Command, InputRef, JobId, ObjectRef, ResultRef, Sha256Sum, TaskFailure, Tenant, Topic,
    UploadRequest, input_key, result_key,
};

use crate::error::Error;

/// The error of a job whose input the worker cannot have.
const INPUT_UNAVAILABLE: &str = "Worker.InputUnavailable";
/// The error of a job whose result has no way to Step Functions.
const RESULT_TOO_LARGE: &str = "Worker.ResultTooLarge";
/// The client id that no worker has: its topic is that of cancelled jobs.
const RESERVED_CLIENT_ID: &str = "cancel";

/// Sends commands to single workers.
pub(crate) trait Commands {
    async fn send(&self, topic: &Topic, command: &Command) -> Result<(), Error>;
}

impl Commands for Publisher {
    /// The broker forgets the command when its URL has expired.
    async fn send(&self, topic: &Topic, command: &Command) -> Result<(), Error> {
        let expiry = u32::try_from(VALIDITY.as_secs()).ok();
        Ok(self.publish(topic.as_str(), command.bytes(), expiry).await?)
    }
}

/// The bucket, if the stack has one, and the way to the workers.
pub(crate) struct Claims<C> {
    pub(crate) bucket: Option<ClaimCheck>,
    pub(crate) commands: C,
}

/// The job and the worker that ask.
#[derive(Debug)]
pub(crate) struct Asker {
    job_id: JobId,
    tenant: Tenant,
    /// The topic of commands to this worker.
    topic: Topic,
}

/// What a worker asks for.
#[derive(Debug)]
pub(crate) enum Request {
    /// A place for a result.
    Upload(UploadRequest),
    /// A new URL of the input.
    Download,
}

impl Asker {
    /// Reads what the IoT rule has stamped. `None` for a message that did not pass the rule.
    pub(crate) fn new(job_id: &JobId, tenant: Option<&str>, worker: Option<&str>) -> Option<Self> {
        let tenant = Tenant::parse(tenant?).ok()?;
        let worker = worker.filter(|worker| *worker != RESERVED_CLIENT_ID)?;
        let topic = Topic::command(&tenant, worker).ok()?;
        Some(Self { job_id: job_id.clone(), tenant, topic })
    }
}

impl<C: Commands> Claims<C> {
    /// Replies to a worker. A task that has ended gets no URL.
    pub(crate) async fn reply(&self, asker: &Asker, request: &Request, is_open: bool) -> Result<(), Error> {
        let command = match (is_open, request) {
            (false, _) => {
                Err(TaskFailure::new(Answer::CANCELLED, "the task has ended; nobody waits for the job"))
            }
            (true, Request::Upload(upload)) => self.upload(asker, upload)?,
            (true, Request::Download) => self.download(asker).await?,
        };
        let command = command.unwrap_or_else(|failure| Command::Refused {
            job_id: asker.job_id.clone(),
            error: failure.error().into(),
            cause: failure.cause().into(),
        });
        self.commands.send(&asker.topic, &command).await
    }

    /// A PUT of the job's result, and of nothing else.
    fn upload(&self, asker: &Asker, upload: &UploadRequest) -> Result<Result<Command, TaskFailure>, Error> {
        let too_large = |why: &str| {
            let cause = format!("the result has {} bytes, and {why}", upload.bytes);
            Ok(Err(TaskFailure::new(RESULT_TOO_LARGE, cause)))
        };
        let Some(bucket) = &self.bucket else {
            return too_large("a message takes at most 131,072; deploy the stack with ClaimCheck=true");
        };
        if upload.bytes > UPLOAD_BYTES {
            return too_large(&format!("the claim check takes at most {UPLOAD_BYTES}"));
        }
        let Some(sha256) = Sha256Sum::parse(&upload.sha256) else {
            return Ok(Err(TaskFailure::new(
                Answer::INVALID,
                "Sha256 must be 64 lower-case hexadecimal digits",
            )));
        };

        let key = result_key(&asker.tenant, &asker.job_id);
        let signed = bucket.upload(&key, upload.bytes, sha256.as_bytes(), &upload.content_type);
        let signed = match signed {
            Ok(signed) => signed,
            // Only the content type comes from the worker as it is.
            Err(error) => return Ok(Err(TaskFailure::new(Answer::INVALID, error.to_string()))),
        };
        Ok(Ok(Command::Upload {
            job_id: asker.job_id.clone(),
            url: signed.url,
            headers: signed.headers.into_iter().collect(),
            result_ref: ObjectRef { bucket: bucket.bucket().to_owned(), key },
        }))
    }

    /// A GET of the job's input: of the object that the dispatcher has stored for the job, or that it names.
    async fn download(&self, asker: &Asker) -> Result<Result<Command, TaskFailure>, Error> {
        let unavailable = |cause: String| Ok(Err(TaskFailure::new(INPUT_UNAVAILABLE, cause)));
        let Some(bucket) = &self.bucket else {
            return unavailable("this stack has no claim check; deploy it with ClaimCheck=true".into());
        };

        let stored =
            ObjectRef { bucket: bucket.bucket().to_owned(), key: input_key(&asker.tenant, &asker.job_id) };
        let (object, described) = match find(bucket, stored).await {
            Ok(found) => found,
            Err(StorageError::Denied { bucket, key, .. }) => {
                return unavailable(format!(
                    "s3://{bucket}/{key} has expired, or the function's role may not read it"
                ));
            }
            Err(other) => return Err(other.into()),
        };

        let url = bucket.download(at(&object)).map_err(StorageError::from)?;
        let sha256 = described.sha256.map(|sum| Sha256Sum::new(sum).to_string());
        let ObjectRef { bucket, key } = object;
        let input_ref = InputRef { bucket, key, url, bytes: described.bytes, sha256 };
        Ok(Ok(Command::Download { job_id: asker.job_id.clone(), input_ref }))
    }

    /// The failure of an answer whose result is anywhere but where this job's upload goes.
    pub(crate) fn check(&self, asker: Option<&Asker>, result: &ResultRef) -> Result<(), TaskFailure> {
        let expected = asker.zip(self.bucket.as_ref()).map(|(asker, bucket)| ObjectRef {
            bucket: bucket.bucket().to_owned(),
            key: result_key(&asker.tenant, &asker.job_id),
        });

        let given = ObjectRef { bucket: result.bucket.clone(), key: result.key.clone() };
        if expected != Some(given) {
            let cause = "ResultRef is not the place in S3 that this job's worker was given";
            return Err(TaskFailure::new(Answer::INVALID, cause));
        }
        if Sha256Sum::parse(&result.sha256).is_none() {
            let cause = "ResultRef.Sha256 must be 64 lower-case hexadecimal digits";
            return Err(TaskFailure::new(Answer::INVALID, cause));
        }
        Ok(())
    }
}

/// The object, or the one that it stands for.
async fn find(bucket: &ClaimCheck, stored: ObjectRef) -> Result<(ObjectRef, Description), StorageError> {
    let described = bucket.describe(at(&stored)).await?;
    match described.from {
        None => Ok((stored, described)),
        Some((from, key)) => {
            let object = ObjectRef { bucket: from, key };
            let described = bucket.describe(at(&object)).await?;
            Ok((object, described))
        }
    }
}

fn at(object: &ObjectRef) -> Object<'_> {
    Object { bucket: &object.bucket, key: &object.key }
}

#[cfg(test)]
pub(crate) mod tests;
