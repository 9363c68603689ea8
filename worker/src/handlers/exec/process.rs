//! One run of a program: its start, its output within bounds, and the end of its whole process group.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use postern_types::TaskFailure;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::handlers::limits::{RESULT_BYTES, too_large};
use crate::reports::Reporter;

/// How long a program may take to end after SIGTERM, before SIGKILL.
const TERM_GRACE: Duration = Duration::from_secs(2);
/// How long the output of a program that has ended may take to arrive. It arrives at once, unless a process outside of
/// the group still has the pipe open.
const OUTPUT_GRACE: Duration = Duration::from_secs(1);

/// What is started.
pub(super) struct Launch {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    /// The whole environment.
    pub(super) environment: Vec<(OsString, OsString)>,
    pub(super) directory: PathBuf,
}

/// A program that has ended, and what it wrote.
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
}

/// Runs the program until it ends, or until `stop` ends with a failure. Each line of its output is also reported when it
/// comes. No process of its group remains.
pub(super) async fn run(
    launch: Launch,
    stop: impl Future<Output = TaskFailure>,
    log: &Reporter,
) -> Result<Ended, TaskFailure> {
    let mut child = start(&launch).map_err(|error| not_started(&launch, &error))?;
    let mut group = Group::of(&child);
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let mut output = std::pin::pin!(async { tokio::try_join!(collect(stdout, log), collect(stderr, log)) });

    let mut collected = None;
    let status = {
        let ends = async {
            tokio::select! {
                // Output within bounds ends with the program, output beyond them ends the program.
                done = &mut output => {
                    collected = Some(done?);
                    child.wait().await.map_err(|error| broken(&error))
                }
                status = child.wait() => status.map_err(|error| broken(&error)),
            }
        };
        tokio::select! {
            status = ends => status,
            failure = stop => Err(failure),
        }
    };

    let status = match status {
        Ok(status) => status,
        Err(failure) => {
            group.stop(&mut child).await;
            return Err(failure);
        }
    };
    // Descendants of the program end with it.
    group.kill();
    let (stdout, stderr) = match collected {
        Some(collected) => collected,
        None => timeout(OUTPUT_GRACE, output).await.map_err(|_| output_is_held())??,
    };
    Ok(Ended { status, stdout, stderr })
}

fn start(launch: &Launch) -> io::Result<Child> {
    let mut command = Command::new(&launch.program);
    command
        .args(&launch.arguments)
        .env_clear()
        .envs(launch.environment.iter().map(|(name, value)| (name, value)))
        .current_dir(&launch.directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    #[cfg(unix)]
    command.process_group(0);
    command.spawn()
}

/// Reads a stream to its end, and reports its lines. One that does not fit into a message is a failure.
async fn collect(stream: Option<impl AsyncRead + Unpin>, log: &Reporter) -> Result<Vec<u8>, TaskFailure> {
    let (mut bytes, mut reported) = (Vec::new(), 0);
    if let Some(stream) = stream {
        let mut bounded = stream.take(RESULT_BYTES as u64 + 1);
        while bounded.read_buf(&mut bytes).await.map_err(|error| broken(&error))? > 0 {
            reported += report_lines(&bytes[reported..], log);
        }
    }
    // The last line may have no end.
    log.log(&String::from_utf8_lossy(&bytes[reported..]));

    if bytes.len() > RESULT_BYTES { Err(too_large("the program's output")) } else { Ok(bytes) }
}

/// Reports the complete lines. Returns their bytes.
fn report_lines(output: &[u8], log: &Reporter) -> usize {
    let end = output.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    log.log(&String::from_utf8_lossy(&output[..end]));
    end
}

/// The process group of a program. Dropping it kills the group.
struct Group {
    #[cfg(unix)]
    id: Option<rustix::process::Pid>,
}

#[cfg(unix)]
impl Group {
    fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self { id: id.and_then(rustix::process::Pid::from_raw) }
    }

    /// Ends the group: SIGTERM, and SIGKILL for what is left.
    async fn stop(&mut self, child: &mut Child) {
        self.signal(rustix::process::Signal::TERM);
        // The status of a program that was stopped does not matter.
        let _ = timeout(TERM_GRACE, child.wait()).await;
        self.kill();
        let _ = child.wait().await;
    }

    /// Kills the group, once: its number may belong to another group later.
    fn kill(&mut self) {
        self.signal(rustix::process::Signal::KILL);
        self.id = None;
    }

    fn signal(&self, signal: rustix::process::Signal) {
        if let Some(id) = self.id {
            // A group without processes is what is wanted.
            let _ = rustix::process::kill_process_group(id, signal);
        }
    }
}

/// Without process groups only the program itself is ended.
#[cfg(not(unix))]
impl Group {
    fn of(_child: &Child) -> Self {
        Self {}
    }

    async fn stop(&mut self, child: &mut Child) {
        // It may have ended already.
        let _ = child.kill().await;
    }

    fn kill(&mut self) {}
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

fn not_started(launch: &Launch, error: &io::Error) -> TaskFailure {
    TaskFailure::new("Exec.NotStarted", format!("{}: {error}", launch.program.display()))
}

fn broken(error: &io::Error) -> TaskFailure {
    TaskFailure::new("Exec.Broken", format!("the program cannot be followed: {error}"))
}

fn output_is_held() -> TaskFailure {
    let cause = "the program has ended, but a process that it started in a session of its own still has its output open";
    TaskFailure::new("Exec.Broken", cause)
}
