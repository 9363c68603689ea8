use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::http;
use crate::runtime_api::{RuntimeApi, work};
use crate::server::Server;

/// A Lambda function: so many processes of its `bootstrap`, each at one event at a time. A process that dies fails
/// its event, and another takes its place.
#[derive(Debug)]
pub struct Function {
    events: Events,
    front: Server,
    empty_posts: watch::Receiver<usize>,
    processes: Processes,
    places: JoinSet<()>,
    killed: watch::Sender<()>,
}

/// What stands in the place of an answer: the JSON of the error that the function reported, or of its end.
#[derive(Debug, PartialEq, Eq)]
pub struct FunctionError(pub Vec<u8>);

/// An event on its way, and where the answer goes. Dropped without one, the function has failed.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) body: Vec<u8>,
    pub(crate) answer: oneshot::Sender<Result<Vec<u8>, FunctionError>>,
}

/// Where events are handed in.
#[derive(Debug, Clone)]
pub(crate) struct Events(mpsc::UnboundedSender<Event>);

/// The events that no process has yet: whichever is free takes the next.
pub(crate) type Queue = Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Event>>>;

/// What is started, again and again.
#[derive(Clone)]
pub(crate) struct Program {
    pub(crate) bootstrap: PathBuf,
    pub(crate) variables: Vec<(String, String)>,
}

impl Function {
    /// Starts `instances` processes of the `bootstrap`, each with the variables given and no others of ours.
    pub async fn start(bootstrap: &Path, instances: usize, variables: &[(&str, &str)]) -> io::Result<Self> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let program =
            Program { bootstrap: bootstrap.to_owned(), variables: variables.iter().map(owned).collect() };
        let (events, queue) = mpsc::unbounded_channel();
        let (events, queue) = (Events(events), Arc::new(tokio::sync::Mutex::new(queue)));
        let (front, empty_posts) = http::open(events.clone()).await?;
        let (processes, killed) = (Processes::default(), watch::Sender::new(()));
        let mut places = JoinSet::new();
        for _ in 0..instances {
            // Not needed once the first process is there; failing now is failing where it is seen.
            let first = Process::start(&program, &processes).await?;
            let queue = Arc::clone(&queue);
            places.spawn(keep_running(first, program.clone(), queue, processes.clone(), killed.subscribe()));
        }
        Ok(Self { events, front, empty_posts, processes, places, killed })
    }

    /// Hands an event to the next process that is free, and waits for the answer.
    pub async fn invoke(&self, event: Vec<u8>) -> Result<Vec<u8>, FunctionError> {
        self.events.invoke(event).await
    }

    /// Where its URL is: every HTTP request there is an event.
    pub fn address(&self) -> SocketAddr {
        self.front.address()
    }

    /// Where Lambda's Invoke API is, `http://host:port`. The function has every name there.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address())
    }

    /// How many `POST` requests without a body there were to its URL: a proxy's keep-alives.
    pub fn empty_posts(&self) -> watch::Receiver<usize> {
        self.empty_posts.clone()
    }

    /// The processes that run now.
    pub fn pids(&self) -> Vec<u32> {
        self.processes.lock().clone()
    }

    /// Kills every process, whatever it is at. Others take their places, and the events that come after this.
    pub fn kill(&self) {
        self.killed.send_replace(());
        for id in self.processes.lock().iter().filter_map(|id| Pid::from_raw(i32::try_from(*id).ok()?)) {
            // One that has ended already is what was wanted.
            let _ = kill_process(id, Signal::KILL);
        }
    }
}

// At once: a process that outlived its Runtime API by a moment would complain.
impl Drop for Function {
    fn drop(&mut self) {
        // First, or they would start others.
        self.places.abort_all();
        self.kill();
    }
}

impl Events {
    pub(crate) async fn invoke(&self, event: Vec<u8>) -> Result<Vec<u8>, FunctionError> {
        let (answer, answered) = oneshot::channel();
        // Without a receiver there is no process any more, and the answer is dropped with the event.
        let _ = self.0.send(Event { body: event, answer });
        let exited = r#"{"errorType":"Runtime.ExitError","errorMessage":"the function's process ended"}"#;
        answered.await.unwrap_or_else(|_| Err(FunctionError(exited.into())))
    }
}

/// The ids of the processes that run.
#[derive(Debug, Clone, Default)]
struct Processes(Arc<Mutex<Vec<u32>>>);

impl Processes {
    fn lock(&self) -> MutexGuard<'_, Vec<u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running `bootstrap` and the Runtime API that it alone speaks to.
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

/// One place for a process: as one ends, the next is started.
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
            // Before work: no event is for a process that was killed before it came.
            _ = killed.changed() => false,
            // Before the end: an answer that is there counts, whatever became of the process since.
            () = work(api, &queue) => true,
            _ = child.wait() => true,
        };
        let asked = api.asked();
        drop(process);
        if ended_by_itself && !asked {
            // As on Lambda, that fails an event; and a process that always ends before it asks for work is not
            // started over and over for nobody.
            drop(queue.lock().await.recv().await);
        }
        process = match Process::start(&program, &processes).await {
            Ok(process) => process,
            Err(error) => return tracing::error!(%error, "there is one process less"),
        };
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{bootstrap, function};

    async fn invoke(function: &Function, event: Value) -> Result<Value, String> {
        let outcome = function.invoke(event.to_string().into_bytes()).await;
        let json = |body: Vec<u8>| serde_json::from_slice::<Value>(&body).unwrap();
        outcome
            .map(json)
            .map_err(|FunctionError(error)| json(error)["errorType"].as_str().unwrap().to_owned())
    }

    #[tokio::test]
    async fn an_event_is_answered_and_an_error_is_told_from_an_answer() {
        let function = function(1).await;
        for _ in 0..3 {
            assert_eq!(invoke(&function, json!({"a": 1})).await, Ok(json!({"a": 1})));
            assert_eq!(invoke(&function, json!({"fail": true})).await, Err("Test.Failed".into()));
        }
    }

    #[tokio::test]
    async fn a_process_that_dies_fails_its_event_and_another_takes_its_place() {
        let function = function(1).await;
        let first = function.pids();
        assert_eq!(first.len(), 1);
        assert_eq!(invoke(&function, json!({"exit": true})).await, Err("Runtime.ExitError".into()));
        assert_eq!(invoke(&function, json!(2)).await, Ok(json!(2)));
        assert_eq!(function.pids().len(), 1);
        assert_ne!(function.pids(), first);
    }

    #[tokio::test]
    async fn a_slow_event_blocks_no_other_and_a_kill_ends_it() {
        let function = function(2).await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let held = json!({"hold": listener.local_addr().unwrap().to_string()});
        let slow = invoke(&function, held.clone());
        let others = async {
            let (socket, _) = listener.accept().await.unwrap();
            for number in 0..3 {
                assert_eq!(invoke(&function, json!(number)).await, Ok(json!(number)));
            }
            drop(socket);
        };
        assert_eq!(tokio::join!(slow, others).0, Ok(held.clone()));

        let slow = invoke(&function, held);
        let killed = async {
            let socket = listener.accept().await.unwrap();
            function.kill();
            socket
        };
        assert_eq!(tokio::join!(slow, killed).0, Err("Runtime.ExitError".into()));
        assert_eq!(invoke(&function, json!(4)).await, Ok(json!(4)));
    }

    #[tokio::test]
    async fn a_process_that_never_asks_fails_every_event() {
        let function = Function::start(&bootstrap(), 1, &[("END", "at once")]).await.unwrap();
        for _ in 0..3 {
            assert_eq!(invoke(&function, json!(1)).await, Err("Runtime.ExitError".into()));
        }
    }

    #[tokio::test]
    async fn a_bootstrap_that_is_not_there_is_an_error_at_the_start() {
        let error = Function::start(Path::new("/nowhere"), 1, &[]).await.unwrap_err();
        assert!(error.to_string().starts_with("/nowhere: "), "{error}");
    }
}
