//! What a run has created, and how it is deleted at the end: after success, failure and Ctrl-C alike.
//!
//! Everything is noted before it is created. Deleting what was never created is no error.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_sfn::Client;
use aws_sdk_sfn::types::ExecutionStatus;
use bytes::Bytes;
use http::Method;
use postern_local::{Api, Call, Error as LocalError, say};
use tokio::sync::{OwnedRwLockReadGuard, RwLock};
use tokio::time::sleep;

use crate::error::Error;

/// Something that a run has created in the account or on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Created {
    Thing(String),
    Certificate { id: String, arn: String, thing: String, policy: String },
    Machine(String),
    Execution(String),
    Object { bucket: String, key: String },
    Folder(PathBuf),
}

/// The list of what must be deleted. Clones share the list.
#[derive(Debug, Clone)]
pub(crate) struct Cleanup {
    api: Api,
    sfn: Client,
    created: Arc<Mutex<Vec<Created>>>,
    /// Held for reading while something is created whose name AWS chooses.
    gate: Arc<RwLock<()>>,
}

/// How often a deletion is tried: AWS IoT Core detaches things and policies asynchronously.
const ATTEMPTS: u32 = 10;

impl Cleanup {
    pub(crate) fn new(api: Api, sfn: Client) -> Self {
        Self { api, sfn, created: Arc::default(), gate: Arc::default() }
    }

    /// Notes what is about to be created.
    pub(crate) fn add(&self, created: Created) {
        self.created.lock().unwrap_or_else(PoisonError::into_inner).push(created);
    }

    /// Forgets what needs no deletion any more.
    pub(crate) fn forget(&self, created: &Created) {
        self.created.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| other != created);
    }

    /// Delays the clean-up until the returned guard is dropped.
    pub(crate) async fn delay(&self) -> OwnedRwLockReadGuard<()> {
        Arc::clone(&self.gate).read_owned().await
    }

    /// Deletes everything, the newest first, and returns what could not be deleted.
    pub(crate) async fn run(&self) -> Vec<String> {
        let _gate = self.gate.write().await;
        let created = std::mem::take(&mut *self.created.lock().unwrap_or_else(PoisonError::into_inner));

        let mut left = Vec::new();
        for created in created.into_iter().rev() {
            if let Err(error) = self.delete(&created).await {
                say(format_args!("could not delete {created:?}: {error}"));
                left.push(format!("{created:?}: {error}"));
            }
        }
        left
    }

    async fn delete(&self, created: &Created) -> Result<(), Error> {
        match created {
            Created::Thing(name) => self.delete_iot(&format!("/things/{name}")).await,
            Created::Certificate { id, arn, thing, policy } => {
                self.delete_certificate(id, arn, thing, policy).await
            }
            Created::Machine(arn) => self.delete_machine(arn).await,
            Created::Execution(arn) => self.stop_execution(arn).await,
            Created::Object { bucket, key } => Ok(self.api.delete(bucket, key).await?),
            Created::Folder(folder) => match std::fs::remove_dir_all(folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::file(folder)(error)),
                _ => Ok(()),
            },
        }
    }

    async fn delete_certificate(&self, id: &str, arn: &str, thing: &str, policy: &str) -> Result<(), Error> {
        // Revoking ends the certificate's connections.
        self.iot(Method::PUT, &format!("/certificates/{id}?newStatus=REVOKED")).await?;

        let target = serde_json::json!({"target": arn}).to_string();
        let path = format!("/target-policies/{policy}");
        absent(iot(&self.api, Method::POST, &path, &[], target).await)?;
        let principal = [("x-amzn-principal", arn)];
        let path = format!("/things/{thing}/principals");
        absent(iot(&self.api, Method::DELETE, &path, &principal, "").await)?;

        self.delete_iot(&format!("/certificates/{id}")).await
    }

    /// Deletes a thing or a certificate, which AWS IoT Core refuses while it still detaches the other.
    async fn delete_iot(&self, path: &str) -> Result<(), Error> {
        for attempt in 1.. {
            match self.iot(Method::DELETE, path).await {
                Err(Error::Local(LocalError::Aws(why))) if attempt < ATTEMPTS && is_attached(&why) => {
                    sleep(Duration::from_secs(1)).await;
                }
                other => return absent(other),
            }
        }
        Ok(())
    }

    /// Stops the executions of a temporary machine, then deletes it.
    async fn delete_machine(&self, arn: &str) -> Result<(), Error> {
        let running =
            self.sfn.list_executions().state_machine_arn(arn).status_filter(ExecutionStatus::Running);
        let executions = running.send().await.map(|page| page.executions).unwrap_or_default();
        for execution in executions {
            self.stop_execution(&execution.execution_arn).await?;
        }

        self.sfn.delete_state_machine().state_machine_arn(arn).send().await?;
        Ok(())
    }

    async fn stop_execution(&self, arn: &str) -> Result<(), Error> {
        let now = self.sfn.describe_execution().execution_arn(arn).send().await?;
        if now.status == ExecutionStatus::Running {
            self.sfn.stop_execution().execution_arn(arn).send().await?;
        }
        Ok(())
    }

    async fn iot(&self, method: Method, path: &str) -> Result<Bytes, Error> {
        iot(&self.api, method, path, &[], "").await
    }
}

/// Calls the control plane of AWS IoT Core.
pub(crate) async fn iot(
    api: &Api,
    method: Method,
    path: &str,
    headers: &[(&'static str, &str)],
    body: impl Into<Bytes>,
) -> Result<Bytes, Error> {
    let what = format!("IoT {method} {}", path.split('?').next().unwrap_or(path));
    let call = Call { service: "iot", method, path, headers, body: body.into() };
    Ok(api.send(&what, call).await?)
}

/// Whether a deletion was refused because something is still attached.
fn is_attached(why: &str) -> bool {
    why.contains("DeleteConflict") || why.contains("InvalidRequest")
}

/// Something that is not there needs no deletion.
fn absent(deleted: Result<Bytes, Error>) -> Result<(), Error> {
    match deleted {
        Err(Error::Local(LocalError::Aws(why))) if why.contains("HTTP 404") => Ok(()),
        other => other.map(drop),
    }
}
