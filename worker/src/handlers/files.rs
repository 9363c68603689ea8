//! Handlers of `type = "files"`: files below one directory.
//!
//! Every path is opened relative to the directory's descriptor, and the kernel refuses one that leads outside of it,
//! by `..`, by an absolute path or by a link, even a link that another process swaps in meanwhile.

mod operations;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use postern_types::TaskFailure;
use serde::Deserialize;
use serde_json::Value;

use super::input::invalid;
use super::limits::TimeLimit;
use crate::config::handlers::{self as config, Operation};
use crate::handler::{Handler, JobContext, Policy};

/// A handler of one directory.
pub(crate) struct Files {
    config: config::Files,
}

/// The input of a job.
#[derive(Deserialize)]
#[serde(tag = "operation", rename_all = "lowercase", deny_unknown_fields)]
enum Request {
    Read {
        path: String,
        #[serde(default, rename = "as")]
        form: operations::Form,
    },
    List {
        path: String,
    },
    Checksum {
        path: String,
    },
    Write {
        path: String,
        text: Option<String>,
        base64: Option<String>,
    },
    Delete {
        path: String,
    },
}

impl Request {
    fn operation(&self) -> Operation {
        match self {
            Self::Read { .. } => Operation::Read,
            Self::List { .. } => Operation::List,
            Self::Checksum { .. } => Operation::Checksum,
            Self::Write { .. } => Operation::Write,
            Self::Delete { .. } => Operation::Delete,
        }
    }
}

impl Files {
    /// A handler of the section, or what is wrong with the section.
    pub(crate) fn new(config: config::Files) -> Result<Self, String> {
        if config.policy == Some(config::PolicyName::ExactlyOnce) {
            return Err("policy: a file cannot be written together with a key; use \"idempotent\"".into());
        }
        if config.operations.is_empty() {
            return Err("operations: name at least one of read, list, checksum, write and delete".into());
        }
        Ok(Self { config })
    }

    /// Whether the directory can be listed, for `doctor`.
    pub(crate) fn check(&self) -> Result<String, String> {
        let root = self.config.root.display();
        let entries =
            Dir::open_ambient_dir(&self.config.root, ambient_authority()).and_then(|dir| dir.entries());
        entries.map(|_| format!("ok, {root} can be opened")).map_err(|error| format!("root {root}: {error}"))
    }

    fn perform(&self, request: Request, job: &JobContext, limit: TimeLimit) -> Result<Value, TaskFailure> {
        let root = Dir::open_ambient_dir(&self.config.root, ambient_authority())
            .map_err(|error| operations::failure(&self.config.root, &error))?;

        match request {
            Request::Read { path, form } => operations::read(&root, &path, form, job, limit),
            Request::List { path } => operations::list(&root, &path, job, limit),
            Request::Checksum { path } => operations::checksum(&root, &path, job, limit),
            Request::Write { path, text, base64 } => {
                let content = operations::content(text, base64)?;
                operations::write(&root, &path, &content)
            }
            Request::Delete { path } => operations::delete(&root, &path),
        }
    }
}

impl Handler for Files {
    type Output = Value;

    /// All operations may be repeated: writing replaces the whole file.
    fn policy(&self) -> Policy {
        self.config.policy.map_or(Policy::Idempotent, Policy::from)
    }

    async fn run(&self, job: JobContext) -> Result<Value, TaskFailure> {
        let limit = TimeLimit::new(self.config.timeout_seconds, "Files.Timeout");
        let request: Request = job.input()?;
        if !self.config.operations.contains(&request.operation()) {
            let allowed = &self.config.operations;
            let problem = format!("operation: the handler allows {allowed:?}, as its section says");
            return Err(invalid(problem.to_lowercase()));
        }
        self.perform(request, &job, limit)
    }
}

#[cfg(test)]
mod tests;
