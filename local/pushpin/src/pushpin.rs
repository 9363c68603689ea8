use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use http::{HeaderValue, Response};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

use crate::TIMEOUT;
use crate::client::{get, post};
use postern_lambda::serve;

/// A running Pushpin with ports and files of its own, on loopback only. It and its children end when dropped.
#[derive(Debug)]
pub struct Pushpin {
    ports: Ports,
    process: Child,
    directory: TempDir,
}

/// The two ports of a Pushpin, known before it starts, because the function wants to know one of them.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    clients: SocketAddr,
    control: SocketAddr,
}

impl Ports {
    /// Two that are free now.
    pub fn free() -> io::Result<Self> {
        Ok(Self { clients: free_port()?, control: free_port()? })
    }

    /// Where one will publish: a `GRIP_URL`.
    pub fn control(&self) -> String {
        format!("http://{}", self.control)
    }
}

/// Where requests go.
#[derive(Debug, Clone)]
pub struct Route {
    conditions: String,
    server: SocketAddr,
    host: Option<String>,
}

impl Route {
    /// Everything goes to this server.
    pub fn all(server: SocketAddr) -> Self {
        Self { conditions: "*".to_owned(), server, host: None }
    }

    /// Requests whose path starts so go there.
    pub fn path(start: &str, server: SocketAddr) -> Self {
        Self { conditions: format!("*,path_beg={start}"), server, host: None }
    }

    /// Asks the server by this name, where it has several.
    #[must_use]
    pub fn host(mut self, name: &str) -> Self {
        self.host = Some(name.to_owned());
        self
    }

    /// Signs them with a key: a secret, `base64:` and a secret, or `file:` and the path of a private key.
    #[must_use]
    pub fn signed(mut self, issuer: &str, key: &str) -> Self {
        let _ = write!(self.conditions, ",sig_iss={issuer},sig_key={key}");
        self
    }
}

/// Why Pushpin does not run.
#[derive(Debug, thiserror::Error)]
pub enum PushpinError {
    /// Not there.
    #[error(
        "{0} is not installed; GRIP cannot be tested without it. Debian and Ubuntu: apt-get install \
         --no-install-recommends pushpin. macOS: brew install pushpin"
    )]
    NotInstalled(&'static str),
    /// A file, a port or a process.
    #[error("Pushpin cannot be started: {0}")]
    Start(#[from] io::Error),
    /// It ended, or never came up; the end of its log.
    #[error("Pushpin does not answer. Its log ends:\n{0}")]
    NotReady(String),
}

impl Pushpin {
    /// Starts one and waits until it passes requests on, holds answers and takes publications.
    pub async fn start(ports: Ports, routes: &[Route]) -> Result<Self, PushpinError> {
        let pushpin = installed("pushpin").ok_or(PushpinError::NotInstalled("pushpin"))?;
        let trial = serve(async |_| held()).await?;
        let routes = [routes, &[Route::path(TRIAL, trial.address())]].concat();
        let mut running = Self::launch(&pushpin, ports, &routes)?;
        match running.ready().await {
            Ok(()) => Ok(running),
            Err(log) => Err(PushpinError::NotReady(log)),
        }
    }

    /// Where clients connect.
    pub fn clients(&self) -> SocketAddr {
        self.ports.clients
    }

    fn launch(pushpin: &Path, ports: Ports, routes: &[Route]) -> Result<Self, PushpinError> {
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
        let log = std::fs::File::create(directory.path().join("log/runner.log"))?;
        let process = Command::new(pushpin)
            .arg(option)
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Self { ports, process, directory })
    }

    /// A port is open long before anything behind it is, and what holds and publishes is another process than
    /// what passes requests on: only a publication that comes out of a held answer tells.
    async fn ready(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + TIMEOUT;
        while Instant::now() < deadline && matches!(self.process.try_wait(), Ok(None)) {
            if let Ok(Ok(true)) = timeout(Duration::from_secs(5), self.try_out()).await {
                return Ok(());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Err(self.log())
    }

    async fn try_out(&self) -> io::Result<bool> {
        let mut answer = get(self.ports.clients, TRIAL).await?;
        if !answer.status.is_success() {
            return Ok(false);
        }
        answer.until("held").await?;
        let item = format!(r#"{{"items":[{{"channel":"{TRIAL}","http-stream":{{"content":"heard"}}}}]}}"#);
        loop {
            if !post(self.ports.control, "/publish/", None, item.as_bytes()).await?.status.is_success() {
                return Ok(false);
            }
            // It listens some time after it is held.
            if let Ok(heard) = timeout(Duration::from_millis(20), answer.until("heard")).await {
                return heard.map(|_| true);
            }
        }
    }

    /// The last lines of every log.
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
        // SIGTERM, which it passes to its children; SIGKILL would leave them. The shell has a kill everywhere.
        let kill = format!("kill -TERM {}", self.process.id());
        let told = Command::new("sh").args(["-c", &kill]).status().is_ok_and(|status| status.success());
        if !told {
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
        if std::thread::panicking() {
            let _ = writeln!(io::stderr(), "Pushpin's log ends:\n{}", self.log());
        }
    }
}

/// Where the trial server is, and the channel that it listens to.
const TRIAL: &str = "/pushpin-is-ready";

/// A stream of the trial channel.
fn held() -> Response<Vec<u8>> {
    let mut response = Response::new(b"held".to_vec());
    response.headers_mut().insert("grip-hold", HeaderValue::from_static("stream"));
    response.headers_mut().insert("grip-channel", HeaderValue::from_static(TRIAL));
    response
}

/// The configuration; `docs/grip.md` explains each line.
fn config(directory: &Path, Ports { clients, control }: Ports) -> String {
    let directory = directory.display();
    // 1.36 makes requests by zurl, a program of its own that Debian runs as a system service too; 1.41 by itself.
    let (services, zurl) = match installed("zurl") {
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

fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// A port that is free now, from below those that the system gives to outgoing connections. Processes that
/// were started one after another are a hundred ports apart, so that they do not find the same ones free.
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
