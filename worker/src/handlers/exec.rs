//! Handlers of `type = "exec"`: a program with arguments from the job's input. No shell reads them.
//!
//! The program leads a process group of its own, which is killed as a whole when the job ends, however it ends. A
//! descendant that starts a session of its own leaves the group and is out of reach.

mod arguments;
mod process;

use postern_types::TaskFailure;
use serde::Serialize;

use super::input;
use super::limits::TimeLimit;
use crate::config::handlers as config;
use crate::handler::{Handler, JobContext, Policy};
use arguments::Template;
use process::{Ended, Launch};

/// The environment variable that tells the program the job's idempotency key.
const KEY_VARIABLE: &str = "POSTERN_IDEMPOTENCY_KEY";

/// A handler of one program.
pub(crate) struct Exec {
    config: config::Exec,
    arguments: Vec<Template>,
    /// The placeholders of all arguments.
    names: Vec<String>,
}

/// What a program that ended with status 0 has written.
#[derive(Debug, Serialize)]
pub(crate) struct Output {
    status: i32,
    stdout: String,
    stderr: String,
}

impl Exec {
    /// A handler of the section, or what is wrong with the section.
    pub(crate) fn new(config: config::Exec) -> Result<Self, String> {
        if !config.program.is_absolute() {
            return Err(format!("program: {} must be an absolute path", config.program.display()));
        }
        let parsed = config.args.iter().map(|text| Template::parse(text));
        let arguments = parsed.collect::<Result<Vec<_>, _>>().map_err(|error| format!("args: {error}"))?;

        let mut names = Vec::new();
        for name in arguments.iter().flat_map(Template::names) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        Ok(Self { config, arguments, names })
    }

    /// Whether the program can be started, for `doctor`. It is not started.
    pub(crate) fn check(&self) -> Result<String, String> {
        let program = &self.config.program;
        let shown = program.display();
        let metadata = program.metadata().map_err(|error| format!("program {shown}: {error}"))?;
        #[cfg(unix)]
        let executable = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o111 != 0;
        #[cfg(not(unix))]
        let executable = true;
        if metadata.is_file() && executable {
            Ok(format!("ok, {shown} can be executed"))
        } else {
            Err(format!("program {shown} is not an executable file"))
        }
    }

    fn launch(&self, job: &JobContext) -> Result<Launch, TaskFailure> {
        let values = input::arguments(job, &self.names)?;
        let values = self.names.iter().map(String::as_str).zip(&values).collect();
        let arguments = self.arguments.iter().map(|template| template.fill(&values));

        let inherited =
            self.config.env.iter().filter_map(|name| Some((name.into(), std::env::var_os(name)?)));
        let key = (KEY_VARIABLE.into(), job.idempotency_key().into());
        Ok(Launch {
            program: self.config.program.clone(),
            arguments: arguments.collect::<Result<_, _>>()?,
            environment: inherited.chain([key]).collect(),
            directory: self.config.directory.clone().unwrap_or_else(|| "/".into()),
        })
    }
}

impl Handler for Exec {
    type Output = Output;

    /// What a program does twice is not known.
    fn policy(&self) -> Policy {
        self.config.policy.map_or(Policy::Once, Policy::from)
    }

    async fn run(&self, job: JobContext) -> Result<Output, TaskFailure> {
        let limit = TimeLimit::new(self.config.timeout_seconds, "Exec.Timeout");
        let launch = self.launch(&job)?;
        let ended = process::run(launch, limit.reached(&job), job.reporter()).await?;
        output(ended)
    }
}

/// The output of a program that succeeded, or the failure of one that did not.
fn output(ended: Ended) -> Result<Output, TaskFailure> {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let (stdout, stderr) = (text(ended.stdout), text(ended.stderr));

    match ended.status.code() {
        Some(0) => Ok(Output { status: 0, stdout, stderr }),
        Some(status) => {
            Err(TaskFailure::new("Exec.Status", format!("the program ended with status {status}: {stderr}")))
        }
        None => {
            // `ExitStatus` shows the signal's number and name.
            let cause = format!("the program was ended by {}: {stderr}", ended.status);
            Err(TaskFailure::new("Exec.Signal", cause))
        }
    }
}

#[cfg(test)]
mod tests;
