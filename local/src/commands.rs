//! `up`, `run` and `down`: the stack as something that stays.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::{Args, ValueEnum};
use postern_local::{DEFAULT_MACHINE, EmulatorOptions, Error, Executions, Outputs, Project, say};
use serde::{Deserialize, Serialize};

use crate::SAMPLE_INPUT;
use crate::demo::Running;
use crate::watch::watch;

/// What `up` notes for `run` and `down`.
#[derive(Serialize, Deserialize)]
struct Note {
    endpoint: String,
    outputs: Outputs,
    worker_log: PathBuf,
    /// Process id, and a word of its command line: an id alone may be another process's by now.
    processes: Vec<(u32, String)>,
}

const FOLDER: &str = "up";

fn note_file(project: &Project) -> PathBuf {
    project.file(".postern").join(FOLDER).join("note.json")
}

fn note(project: &Project) -> Result<Option<Note>, Error> {
    match fs::read(note_file(project)) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(crate) async fn up() -> Result<bool, Error> {
    let project = Project::here()?;
    if let Some(note) = note(&project)?
        && note.processes.iter().any(|(id, word)| runs(*id, word))
    {
        say(format_args!("It runs already, at {}. `make down` stops it.", note.endpoint));
        return Ok(false);
    }
    let folder = project.fresh_folder(FOLDER)?;
    // The ports that people know, so that what they note down stays true.
    let options = EmulatorOptions {
        gateway_port: Some(4_566),
        mqtt_port: Some(8_883),
        stays: true,
        ..EmulatorOptions::default()
    };
    let running = Running::start(&project, &folder, options).await?;
    let note = Note {
        endpoint: running.cloud.endpoint(),
        outputs: running.outputs.clone(),
        worker_log: running.worker_log.clone(),
        processes: vec![
            (running.worker.id(), "postern-worker".into()),
            (running.cloud.process().id(), "launch.py".into()),
        ],
    };
    fs::write(note_file(&project), serde_json::to_vec_pretty(&note).unwrap_or_default())?;
    let variables = running.cloud.environment();
    let Running { worker, cloud, .. } = running;
    worker.leave();
    cloud.leave();
    say("\nIt runs. Start an execution and watch it:\n");
    say("  make run INPUT='{\"a\":1,\"b\":2}'");
    say("  make run MACHINE=dojo INPUT=events/statemachines/dojo/true.json\n");
    say("or with the AWS CLI:\n");
    for (name, value) in variables {
        say(format_args!("  export {name}={value}"));
    }
    say(format_args!(
        "  aws stepfunctions start-execution --state-machine-arn {} \\",
        note.outputs.state_machine()
    ));
    say("      --input '{\"a\":1,\"b\":2}'");
    say("  aws stepfunctions describe-execution --execution-arn ...\n");
    say(format_args!("The worker's log: {}", note.worker_log.display()));
    say("`make down` stops it.");
    Ok(true)
}

/// `run`: which machine, where, with what.
#[derive(Args)]
pub(crate) struct Run {
    /// The execution's input: JSON, or a file with JSON.
    #[arg(default_value = SAMPLE_INPUT)]
    input: String,
    /// The state machine: the name of its file in statemachines/, without .asl.json.
    #[arg(long, default_value = DEFAULT_MACHINE)]
    machine: String,
    /// On what `up` started, or on a stack in AWS, with the shell's credentials and region.
    #[arg(long, value_enum, default_value_t = Target::Local)]
    target: Target,
    /// The stack in AWS.
    #[arg(long, default_value = "postern")]
    stack: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum Target {
    Local,
    Aws,
}

impl Run {
    /// Whether the execution succeeded.
    pub(crate) async fn run(&self) -> Result<bool, Error> {
        let project = Project::here()?;
        let (config, outputs, worker_log) = match self.target {
            Target::Local => {
                let Some(note) = note(&project)? else {
                    say("Nothing runs. `make up` starts it.");
                    return Ok(false);
                };
                (postern_local::sdk_config(&note.endpoint).await, note.outputs, Some(note.worker_log))
            }
            Target::Aws => {
                let outputs = Outputs::of_stack(&project, &self.stack).await?;
                (postern_runtime::aws::config().await, outputs, None)
            }
        };
        let machine = outputs.machine(&self.machine);
        if machine.is_empty() {
            say(format_args!("The stack has no state machine {}.", self.machine));
            return Ok(false);
        }
        let file = Path::new(&self.input);
        let input = if file.is_file() { fs::read_to_string(file)? } else { self.input.clone() };
        say(format_args!("execution of {machine} with {}", input.trim()));
        let finished = watch(&Executions::new(&config), machine, &input, worker_log.as_deref()).await?;
        Ok(finished.status == "SUCCEEDED")
    }
}

pub(crate) fn down() -> Result<bool, Error> {
    let project = Project::here()?;
    let Some(note) = note(&project)? else {
        say("Nothing runs.");
        return Ok(true);
    };
    // In the order noted: the worker first, while its broker is there.
    for (id, word) in &note.processes {
        if runs(*id, word) {
            Command::new("kill").arg(id.to_string()).status()?;
            while runs(*id, word) {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        }
    }
    fs::remove_file(note_file(&project))?;
    say("Stopped.");
    Ok(true)
}

/// Whether a process with this id and this word in its command line runs.
fn runs(id: u32, word: &str) -> bool {
    // Linux says it in a file (empty for a process that only waits to be buried), others by `ps`.
    let command = if Path::new("/proc/self").exists() {
        fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default()
    } else {
        let ps = Command::new("ps").args(["-o", "command=", "-p", &id.to_string()]).output();
        ps.map(|ps| ps.stdout).unwrap_or_default()
    };
    String::from_utf8_lossy(&command).contains(word)
}
