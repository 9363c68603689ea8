//! The commands `up`, `run` and `down`: a local stack that outlives the command that started it.

use clap::{Args, ValueEnum};
use postern_jobs::DynamoJobs;
use postern_local::{
    DEFAULT_MACHINE, EmulatorOptions, Error, Executions, LocalStack, Outputs, Project, environment,
    jobs_table, say, sdk_config, user_config, watch,
};
use postern_pushpin::{Left, Pushpin};

use crate::input::input;
use crate::note::{FOLDER, Note, PROXY, Started};

/// Starts the local stack and leaves it running.
pub(crate) async fn up() -> Result<bool, Error> {
    let project = Project::here()?;
    if let Some(note) = Note::read(&project)? {
        let ended = note.ended();
        if ended.is_empty() {
            say("The local stack runs already.\n");
            print_usage(&note);
            return Ok(true);
        }
        for process in ended {
            say(format_args!("{process} has ended without `make down`."));
        }
        say("Stopping what is left of that stack, then starting a new one.");
        note.stop(&project)?;
    }

    let folder = project.fresh_folder(FOLDER)?;
    // The usual ports, so that exports and URLs stay true from one `up` to the next.
    let options = EmulatorOptions {
        gateway_port: Some(4_566),
        mqtt_port: Some(8_883),
        stays: true,
        ..EmulatorOptions::default()
    };
    let stack = LocalStack::start(&project, &folder, options).await?;

    let mut note = note_of(&stack);
    let LocalStack { worker, emulator, issuer, proxy, .. } = stack;
    if let Some(Left { id, folder, log }) = proxy.map(Pushpin::leave) {
        // The proxy ends before the API to which it passes requests.
        note.processes.insert(1, Started { name: PROXY.into(), id, word: "pushpin".into(), log });
        note.folders.push(folder);
    }
    note.write(&project)?;
    worker.leave();
    emulator.leave();
    issuer.leave();

    say("\nThe local stack runs.\n");
    print_usage(&note);
    Ok(true)
}

fn note_of(stack: &LocalStack) -> Note {
    let (emulator, issuer) = (stack.emulator.process(), stack.issuer.process());
    Note {
        endpoint: stack.emulator.endpoint(),
        outputs: stack.outputs.clone(),
        processes: vec![
            Started {
                name: "worker".into(),
                id: stack.worker.id(),
                word: "postern-worker".into(),
                log: stack.worker_log.clone(),
            },
            Started {
                name: "emulator".into(),
                id: emulator.id(),
                word: "launch.py".into(),
                log: emulator.log().to_owned(),
            },
            Started {
                name: "issuer".into(),
                id: issuer.id(),
                word: "issuer.py".into(),
                log: issuer.log().to_owned(),
            },
        ],
        folders: Vec::new(),
    }
}

/// Prints what runs and how to use it.
fn print_usage(note: &Note) {
    for process in &note.processes {
        let (name, log) = (&process.name, process.log.display());
        say(format_args!("  {name:<9} process {:<8} log {log}", process.id));
    }

    let console = note.outputs.get("ConsoleUrl");
    if !console.is_empty() {
        say("\nSee the jobs and start some; the sign-in works offline:\n");
        say(format_args!("  {console}/\n"));
        say(if note.is_live() {
            "The page is live: Pushpin, a GRIP proxy, announces every change."
        } else {
            "The page polls every five seconds: Pushpin, which would announce every change, is not installed."
        });
    }

    say("\nStart an execution and watch it:\n");
    say("  make run INPUT='{\"a\":1,\"b\":2}'");
    say("  make run MACHINE=dojo INPUT=events/statemachines/dojo/true.json\n");
    say("or with the AWS CLI:\n");
    for (name, value) in environment(&note.endpoint) {
        say(format_args!("  export {name}={value}"));
    }
    say(format_args!(
        "  aws stepfunctions start-execution --state-machine-arn {} \\",
        note.outputs.state_machine()
    ));
    say("      --input '{\"a\":1,\"b\":2}'");
    say("  aws stepfunctions describe-execution --execution-arn ...\n");
    say("`make down` stops it.");
}

/// The arguments of `run`. `make` passes the input in the environment, where an apostrophe needs no quoting.
#[derive(Args)]
pub(crate) struct Run {
    /// The execution's input: JSON, or a file with JSON. The default is the machine's own sample.
    #[arg(env = "POSTERN_INPUT", allow_hyphen_values = true)]
    input: Option<String>,
    /// The state machine: the name of its file in statemachines/, without .asl.json.
    #[arg(long, default_value = DEFAULT_MACHINE)]
    machine: String,
    /// The local stack that `up` started, or a stack in AWS, with the shell's credentials and region.
    #[arg(long, value_enum, default_value_t = Target::Local)]
    target: Target,
    /// The stack in AWS. The default is `postern`.
    #[arg(long)]
    stack: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Target {
    Local,
    Aws,
}

impl Run {
    /// Runs an execution. Returns whether it succeeded.
    pub(crate) async fn run(&self) -> Result<bool, Error> {
        let project = Project::here()?;
        let samples = project.file("events/statemachines");
        match self.target {
            Target::Local => {
                let note = self.running(&project)?;
                let machine = note.outputs.find_machine(&self.machine)?;
                let input = input(self.input.as_deref(), &samples, &self.machine)?;
                let config = sdk_config(&note.endpoint);
                let executions = Executions::new(&config);
                let jobs = jobs_table(&config, &note.outputs).await;
                self.follow(&executions, machine, &input, note.worker_log(), jobs).await
            }
            Target::Aws => {
                // The input is checked before the first call of AWS, which takes a second or two.
                let stack = self.stack.as_deref().unwrap_or("postern");
                let input = input(self.input.as_deref(), &samples, &self.machine)?;
                let config = user_config().await;
                let outputs = Outputs::of_stack(&config, stack).await?;
                let machine = outputs.find_machine(&self.machine)?;
                let jobs = jobs_table(&config, &outputs).await;
                self.follow(&Executions::new(&config), machine, &input, None, jobs).await
            }
        }
    }

    async fn follow(
        &self,
        executions: &Executions,
        machine: &str,
        input: &str,
        worker_log: Option<&std::path::Path>,
        jobs: Option<DynamoJobs>,
    ) -> Result<bool, Error> {
        say(format_args!("execution of {machine} with {}", input.trim()));
        let finished = watch(executions, machine, input, worker_log, jobs).await?;
        Ok(finished.status == "SUCCEEDED")
    }

    /// The note of the local stack. Fails unless all of its processes run.
    fn running(&self, project: &Project) -> Result<Note, Error> {
        if let Some(stack) = &self.stack {
            return Err(Error::Invalid(format!(
                "STACK={stack} names a stack in AWS: add TARGET=aws, or leave STACK out for the local stack."
            )));
        }
        let note = Note::read(project)?
            .ok_or_else(|| Error::Invalid("The local stack does not run: `make up` starts it.".into()))?;
        match note.ended().first() {
            None => Ok(note),
            Some(process) => Err(Error::Invalid(format!(
                "{process} has ended: `make up` starts the local stack again, `make down` stops the rest of it."
            ))),
        }
    }
}

/// Stops what `up` started.
pub(crate) fn down() -> Result<bool, Error> {
    let project = Project::here()?;
    let Some(note) = Note::read(&project)? else {
        say("The local stack does not run.");
        return Ok(true);
    };
    note.stop(&project)?;
    say("The local stack is stopped.");
    Ok(true)
}
