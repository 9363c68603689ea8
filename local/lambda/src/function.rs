//! A Lambda function on this machine: processes of its `bootstrap`, replaced when they end.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::http;
use crate::queue::{Events, FunctionError, Queue, queue};
use crate::runtime_api::{RuntimeApi, work};
use crate::server::Server;

/// A Lambda function: a number of processes of its `bootstrap`, each of which handles one event at a time. When a process
/// ends, its event fails and a new process replaces it.
#[derive(Debug)]
pub struct Function {
    events: Events,
    server: Server,
    empty_posts: watch::Receiver<usize>,
    processes: Processes,
    slots: JoinSet<()>,
    killed: watch::Sender<()>,
}

/// The program that each process runs.
#[derive(Clone)]
pub(crate) struct Program {
    pub(crate) bootstrap: PathBuf,
    pub(crate) variables: Vec<(String, String)>,
}

impl Function {
    /// Starts `instances` processes of the `bootstrap`. Each process has the given environment variables and those that
    /// Lambda sets. It inherits no variable of this process.
    pub async fn start(bootstrap: &Path, instances: usize, variables: &[(&str, &str)]) -> io::Result<Self> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let program =
            Program { bootstrap: bootstrap.to_owned(), variables: variables.iter().map(owned).collect() };

        let (events, queue) = queue();
        let (server, empty_posts) = http::open(events.clone()).await?;
        let (processes, killed) = (Processes::default(), watch::Sender::new(()));

        let mut slots = JoinSet::new();
        for _ in 0..instances {
            // The first process is started here and not in its task, so that a missing bootstrap is an error of this call.
            let first = Process::start(&program, &processes).await?;
            let queue = Arc::clone(&queue);
            slots.spawn(keep_running(first, program.clone(), queue, processes.clone(), killed.subscribe()));
        }

        Ok(Self { events, server, empty_posts, processes, slots, killed })
    }

    /// Gives an event to the next free process and waits for the response.
    pub async fn invoke(&self, event: Vec<u8>) -> Result<Vec<u8>, FunctionError> {
        self.events.invoke(event).await
    }

    /// The address of the function URL: every HTTP request to it is an event.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The endpoint of Lambda's Invoke API, `http://host:port`. It answers for any function name.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The number of `POST` requests without a body to the function URL: a proxy's keep-alives.
    pub fn empty_posts(&self) -> watch::Receiver<usize> {
        self.empty_posts.clone()
    }

    /// The ids of the running processes.
    pub fn pids(&self) -> Vec<u32> {
        self.processes.lock().clone()
    }

    /// Kills every running process. New processes replace them and handle the events that follow.
    pub fn kill(&self) {
        self.killed.send_replace(());
        for id in self.processes.lock().iter().filter_map(|id| Pid::from_raw(i32::try_from(*id).ok()?)) {
            // The process may have ended already.
            let _ = kill_process(id, Signal::KILL);
        }
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        // The slots are aborted first, because they would replace the killed processes. The processes are killed without a grace period,
        // because their Runtime API ends with this value, which they would report as an error.
        self.slots.abort_all();
        self.kill();
    }
}

/// The ids of the running processes.
#[derive(Debug, Clone, Default)]
struct Processes(Arc<Mutex<Vec<u32>>>);

impl Processes {
    fn lock(&self) -> MutexGuard<'_, Vec<u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running `bootstrap` with a Runtime API of its own.
struct Process {
    child: Child,
    api: RuntimeApi,
    id: u32,
    processes: Processes,
}

impl Process {
    async fn start(program: &Program, processes: &Processes) -> io::Result<Self> {
        let api = RuntimeApi::start().await?;
        let name = program.bootstrap.file_name().unwrap_or_default();
        let child = Command::new(&program.bootstrap)
            .env_clear()
            .env("AWS_LAMBDA_FUNCTION_NAME", name)
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_LOG_GROUP_NAME", "local")
            .env("AWS_LAMBDA_LOG_STREAM_NAME", "local")
            .envs(program.variables.iter().map(|(name, value)| (name, value)))
            .env("AWS_LAMBDA_RUNTIME_API", api.address().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", program.bootstrap.display()))
            })?;

        let id = child.id().unwrap_or_default();
        processes.lock().push(id);
        Ok(Self { child, api, id, processes: processes.clone() })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.processes.lock().retain(|id| *id != self.id);
    }
}

/// Keeps one process running: starts a new process when the current one ends.
async fn keep_running(
    mut process: Process,
    program: Program,
    queue: Queue,
    processes: Processes,
    mut killed: watch::Receiver<()>,
) {
    loop {
        let Process { child, api, .. } = &mut process;
        let ended_by_itself = tokio::select! {
            biased;
            // The kill is checked first, so that an event that arrives after it goes to the new process.
            _ = killed.changed() => false,
            // A response that has arrived counts even if the process has ended since, so the end is checked last.
            () = work(api, &queue) => true,
            _ = child.wait() => true,
        };

        let has_polled = api.has_polled();
        drop(process);

        if ended_by_itself && !has_polled {
            // As on Lambda, a process that ends before it polls fails an event. Waiting for that event also keeps a
            // program that always ends at its start from being restarted in a loop.
            drop(queue.lock().await.recv().await);
        }
        process = match Process::start(&program, &processes).await {
            Ok(process) => process,
            Err(error) => return tracing::error!(%error, "a process of the function could not be restarted"),
        };
    }
}

#[cfg(test)]
mod tests;
