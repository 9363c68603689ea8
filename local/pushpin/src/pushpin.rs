//! Starts Pushpin with a configuration of its own, and waits until it holds responses and delivers publications.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use http::{HeaderValue, Response};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

use postern_lambda::serve;

use crate::client::{TIMEOUT, get, post};
use crate::version::{Version, installed, program};

/// A running Pushpin with its own ports, on loopback, and its own folder. Dropping it stops Pushpin and its children.
#[derive(Debug)]
pub struct Pushpin {
    ports: Ports,
    process: Child,
    directory: TempDir,
}

/// The two ports of a Pushpin. They are chosen before it starts, because the function's configuration needs one of them.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    clients: SocketAddr,
    control: SocketAddr,
}

impl Ports {
    /// Chooses two free ports.
    pub fn free() -> io::Result<Self> {
        Ok(Self { clients: free_port()?, control: free_port()? })
    }

    /// The address that clients connect to.
    pub fn clients(&self) -> SocketAddr {
        self.clients
    }

    /// The address of the control endpoint, as a `GRIP_URL`.
    pub fn control(&self) -> String {
        format!("http://{}", self.control)
    }
}

/// A rule that sends requests to a server.
#[derive(Debug, Clone)]
pub struct Route {
    conditions: String,
    server: SocketAddr,
    host: Option<String>,
}

impl Route {
    /// Sends every request to this server.
    pub fn all(server: SocketAddr) -> Self {
        Self { conditions: "*".to_owned(), server, host: None }
    }

    /// Sends requests whose path starts with `start` to this server.
    pub fn path(start: &str, server: SocketAddr) -> Self {
        Self { conditions: format!("*,path_beg={start}"), server, host: None }
    }

    /// Sets the `Host` of the requests, for a server with several names.
    #[must_use]
    pub fn host(mut self, name: &str) -> Self {
        self.host = Some(name.to_owned());
        self
    }

    /// Signs the requests with a key: a secret, `base64:` and a secret, or `file:` and the path of a private key.
    #[must_use]
    pub fn signed(mut self, issuer: &str, key: &str) -> Self {
        let _ = write!(self.conditions, ",sig_iss={issuer},sig_key={key}");
        self
    }
}

/// Why Pushpin did not start.
#[derive(Debug, thiserror::Error)]
pub enum PushpinError {
    /// The program is not installed.
    #[error(
        "{0} is not in the PATH; GRIP cannot be tested without it. Debian and Ubuntu: apt-get install \
         --no-install-recommends pushpin. macOS: brew install pushpin"
    )]
    NotInstalled(&'static str),
    /// A file could not be written, no port was free, or the process could not be started.
    #[error("Pushpin cannot be started: {0}")]
    Start(#[from] io::Error),
    /// Pushpin ended, or delivered no publication in time. The field holds the last lines of its logs.
    #[error("Pushpin does not deliver publications. Its logs end:\n{0}")]
    NotReady(String),
}

/// A Pushpin that runs without an owner.
#[derive(Debug)]
pub struct Left {
    /// The process id. SIGTERM ends Pushpin and its children.
    pub id: u32,
    /// The folder with its configuration, sockets and logs.
    pub folder: PathBuf,
    /// The log of the process.
    pub log: PathBuf,
}

impl Pushpin {
    /// Whether Pushpin is installed on this machine.
    pub fn is_installed() -> bool {
        program().is_some()
    }

    /// Starts Pushpin with these routes. Returns when it forwards requests, holds responses and delivers publications.
    pub async fn start(ports: Ports, routes: &[Route]) -> Result<Self, PushpinError> {
        Self::start_with(ports, routes, false).await
    }

    /// [`Pushpin::start`] of one that can be left running: it outlives the terminal that starts it.
    pub async fn start_to_stay(ports: Ports, routes: &[Route]) -> Result<Self, PushpinError> {
        Self::start_with(ports, routes, true).await
    }

    /// Leaves Pushpin running when its owner ends.
    pub fn leave(self) -> Left {
        let folder = self.directory.path().to_owned();
        let left = Left { id: self.process.id(), log: folder.join(RUNNER_LOG), folder };

        // Without its `drop`, which would stop Pushpin and delete the folder.
        std::mem::forget(self);
        left
    }

    async fn start_with(ports: Ports, routes: &[Route], stays: bool) -> Result<Self, PushpinError> {
        let pushpin = program().ok_or(PushpinError::NotInstalled("pushpin"))?;
        let trial = serve(async |_| held()).await?;
        let routes = [routes, &[Route::path(TRIAL, trial.address())]].concat();

        let mut running = Self::launch(&pushpin, ports, &routes, stays)?;
        match running.ready().await {
            Ok(()) => Ok(running),
            Err(log) => Err(PushpinError::NotReady(log)),
        }
    }

    /// Whether Pushpin has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.process.try_wait(), Ok(None))
    }

    /// The address of the control endpoint.
    pub fn control(&self) -> SocketAddr {
        self.ports.control
    }

    /// The address that clients connect to.
    pub fn clients(&self) -> SocketAddr {
        self.ports.clients
    }

    fn launch(pushpin: &Path, ports: Ports, routes: &[Route], stays: bool) -> Result<Self, PushpinError> {
        let directory = tempfile::Builder::new().prefix("postern-pushpin-").tempdir()?;
        for folder in ["run", "log"] {
            std::fs::create_dir(directory.path().join(folder))?;
        }

        let config = config(directory.path(), ports);
        std::fs::write(directory.path().join("pushpin.conf"), config)?;

        let mut lines = String::new();
        for Route { conditions, server, host } in routes {
            let host = host.as_ref().map(|name| format!(",host={name}")).unwrap_or_default();
            let _ = writeln!(lines, "{conditions} {server},over_http{host}");
        }
        std::fs::write(directory.path().join("routes"), lines)?;

        let mut option = std::ffi::OsString::from("--config=");
        option.push(directory.path().join("pushpin.conf"));

        let log = std::fs::File::create(directory.path().join(RUNNER_LOG))?;
        let mut command = Command::new(pushpin);
        command.arg(option).current_dir(directory.path());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        if stays {
            command.process_group(0);
        }
        let process = command.spawn()?;
        Ok(Self { ports, process, directory })
    }

    /// Waits until a publication arrives on a held response, or returns the log.
    ///
    /// Pushpin's port is open before its processes are ready, and the process that forwards requests is not the one that
    /// holds and publishes. Only a publication on a held response shows that all of them work.
    async fn ready(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + TIMEOUT;
        while Instant::now() < deadline && !self.has_ended() {
            if let Ok(Ok(true)) = timeout(Duration::from_secs(5), self.delivers()).await {
                return Ok(());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Err(self.log())
    }

    /// Whether Pushpin forwards a request, holds its response, and delivers a publication to it.
    async fn delivers(&self) -> io::Result<bool> {
        let mut answer = get(self.ports.clients, TRIAL).await?;
        if !answer.status.is_success() {
            return Ok(false);
        }
        answer.until("held").await?;
        let item =
            format!(r#"{{"items":[{{"channel":"{TRIAL}","http-stream":{{"content":"delivered"}}}}]}}"#);
        loop {
            if !post(self.ports.control, "/publish/", None, item.as_bytes()).await?.status.is_success() {
                return Ok(false);
            }
            // Pushpin subscribes a held response some time after it has sent the headers: publish until it has.
            if let Ok(delivered) = timeout(Duration::from_millis(20), answer.until("delivered")).await {
                return delivered.map(|_| true);
            }
        }
    }

    /// The last lines of each of Pushpin's logs.
    pub fn log(&self) -> String {
        let files = std::fs::read_dir(self.directory.path().join("log")).into_iter().flatten().flatten();
        files.fold(String::new(), |mut all, file| {
            let text = std::fs::read_to_string(file.path()).unwrap_or_default();
            let lines: Vec<_> = text.lines().rev().take(15).collect();
            let _ = writeln!(all, "--- {}", file.file_name().to_string_lossy());
            lines.iter().rev().for_each(|line| all.extend([line, "\n"]));
            all
        })
    }
}

impl Drop for Pushpin {
    fn drop(&mut self) {
        // Pushpin passes SIGTERM on to its children. SIGKILL, which `Child::kill` sends, would leave them running. The
        // shell's `kill` spares a dependency and unsafe code.
        let kill = format!("kill -TERM {}", self.process.id());
        let sent = Command::new("sh").args(["-c", &kill]).status().is_ok_and(|status| status.success());
        // The development version of 2.0 ends its children and then stays: it gets SIGKILL after a while.
        let start = std::time::Instant::now();
        while sent && !self.has_ended() && start.elapsed() < STOP {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let _ = writeln!(io::stderr(), "Pushpin's logs end:\n{}", self.log());
        }
    }
}

/// How long Pushpin may take to end.
const STOP: Duration = Duration::from_secs(10);

/// The log of Pushpin's first process, in its folder.
const RUNNER_LOG: &str = "log/runner.log";

/// The path of the trial server, and the channel that its responses listen to.
const TRIAL: &str = "/pushpin-is-ready";

/// The trial server's response: a stream that listens to the trial channel.
fn held() -> Response<Vec<u8>> {
    let mut response = Response::new(b"held".to_vec());
    response.headers_mut().insert("grip-hold", HeaderValue::from_static("stream"));
    response.headers_mut().insert("grip-channel", HeaderValue::from_static(TRIAL));
    response
}

/// Pushpin's configuration. `docs/grip.md` explains each line.
fn config(directory: &Path, Ports { clients, control }: Ports) -> String {
    let directory = directory.display();

    // Version 1.36 makes its requests through zurl, a separate program, which Debian also runs as a system service.
    // Version 1.41 makes them itself.
    let needs_zurl = Version::installed().is_none_or(|version| version < Version::new(1, 41));
    let (services, zurl) = match installed("zurl").filter(|_| needs_zurl) {
        Some(_) => (
            "condure,zurl,pushpin-proxy,pushpin-handler",
            "zurl_out_specs=ipc://{rundir}/{ipc_prefix}zurl-in\n\
             zurl_out_stream_specs=ipc://{rundir}/{ipc_prefix}zurl-in-stream\n\
             zurl_in_specs=ipc://{rundir}/{ipc_prefix}zurl-out\n",
        ),
        None => ("condure,pushpin-proxy,pushpin-handler", ""),
    };
    format!(
        "[global]\n\
         include={{libdir}}/internal.conf\n\
         rundir={directory}/run\n\
         ipc_prefix=p-\n\
         port_offset=0\n\
         [runner]\n\
         services={services}\n\
         http_port={clients}\n\
         logdir={directory}/log\n\
         log_level=2\n\
         client_buffer_size=200000\n\
         client_maxconn=2000\n\
         [proxy]\n\
         {zurl}\
         routesfile={directory}/routes\n\
         sig_iss=pushpin\n\
         updates_check=off\n\
         [handler]\n\
         push_in_spec=ipc://{{rundir}}/{{ipc_prefix}}push-in\n\
         push_in_sub_specs=ipc://{{rundir}}/{{ipc_prefix}}push-in-sub\n\
         push_in_http_addr={}\n\
         push_in_http_port={}\n\
         stats_spec=ipc://{{rundir}}/{{ipc_prefix}}stats\n\
         command_spec=ipc://{{rundir}}/{{ipc_prefix}}command\n",
        control.ip(),
        control.port(),
    )
}

/// Finds a free port below those that the system gives to outgoing connections.
///
/// Processes that were started one after another search a hundred ports apart, so that they do not choose the same port.
fn free_port() -> io::Result<SocketAddr> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = u16::try_from(std::process::id() % 100).unwrap_or_default() * 100;

    for _ in 0..1_000 {
        let port = 20_000 + (own + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}
