//! PostgreSQL, MariaDB and SQLite for the tests: real servers from packages, on free ports of loopback, with their data
//! in a temporary folder. The tests that run at a time share a server; the last one stops it.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, Weak};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The user `nobody`, in whose name root starts the servers: PostgreSQL refuses to run as root.
const NOBODY: u32 = 65_534;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Engine {
    Postgres,
    Mariadb,
    Sqlite,
}

/// The certificate and key of a server (PEM), and whether the server refuses connections without TLS.
pub(super) struct Tls {
    pub(super) certificate: String,
    pub(super) key: String,
    pub(super) demanded: bool,
}

/// A server that runs.
pub(super) struct Server {
    process: Option<Child>,
    folder: tempfile::TempDir,
    port: u16,
    engine: Engine,
}

static RUNNING: [Mutex<Weak<Server>>; 3] = [const { Mutex::new(Weak::new()) }; 3];

impl Server {
    /// The server of this kind that other tests use at the moment, or a new one.
    pub(super) fn shared(engine: Engine) -> Arc<Self> {
        let mut running = RUNNING[engine as usize].lock().unwrap();
        if let Some(server) = running.upgrade() {
            return server;
        }
        let server = Arc::new(Self::start(engine, None));
        *running = Arc::downgrade(&server);
        server
    }

    /// The URL of a database.
    pub(super) fn url(&self, database: &str) -> String {
        let port = self.port;
        match self.engine {
            Engine::Postgres => format!("postgres://postgres@127.0.0.1:{port}/{database}?sslmode=disable"),
            Engine::Mariadb => format!("mysql://tester:hunter2@127.0.0.1:{port}/{database}"),
            Engine::Sqlite => format!("sqlite://{}/{database}", self.folder.path().display()),
        }
    }

    /// The database that exists from the start.
    pub(super) fn first_database(&self) -> &'static str {
        match self.engine {
            Engine::Postgres => "postgres",
            Engine::Mariadb => "mysql",
            Engine::Sqlite => "first.sqlite",
        }
    }

    /// The port of loopback that the server listens on.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// A server of a test's own. Its log is kept in its folder.
    pub(super) fn start(engine: Engine, tls: Option<&Tls>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        if is_root() {
            chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let mut process = match engine {
            Engine::Postgres => postgres(folder.path(), port, tls),
            Engine::Mariadb => mariadb(folder.path(), port, tls),
            Engine::Sqlite => return Self { process: None, folder, port, engine },
        };

        let ready = ["ready to accept connections", "ready for connections"];
        let end = Instant::now() + Duration::from_mins(1);
        loop {
            let log = fs::read_to_string(folder.path().join("log")).unwrap_or_default();
            if ready.iter().any(|words| log.contains(words)) {
                break;
            }
            assert!(process.try_wait().unwrap().is_none(), "{engine:?} has ended:\n{log}");
            assert!(Instant::now() < end, "{engine:?} is not ready:\n{log}");
            sleep(Duration::from_millis(20));
        }
        Self { process: Some(process), folder, port, engine }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // Its data go with it. PostgreSQL ends its own processes when the first one is gone.
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }
}

fn postgres(folder: &Path, port: u16, tls: Option<&Tls>) -> Child {
    let data = folder.join("data");
    let init = ["-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--locale=C", "-D"];
    run(command(&program("initdb"), folder).args(init).arg(&data));

    let socket = folder.display().to_string();
    let mut server = command(&program("postgres"), folder);
    server.arg("-D").arg(&data).args(["-p", &port.to_string(), "-k", &socket]);
    server.args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]);
    if let Some(tls) = tls {
        let [certificate, key] = write(tls, folder).map(|path| path.display().to_string());
        server.args(["-c", "ssl=on", "-c", &format!("ssl_cert_file={certificate}")]);
        server.args(["-c", &format!("ssl_key_file={key}")]);
        let hosts = if tls.demanded { "hostssl" } else { "host" };
        fs::write(data.join("pg_hba.conf"), format!("{hosts} all all 127.0.0.1/32 trust\n")).unwrap();
    }
    start(&mut server, folder)
}

fn mariadb(folder: &Path, port: u16, tls: Option<&Tls>) -> Child {
    let data = format!("--datadir={}", folder.join("data").display());
    let mut install = command(&program("mariadb-install-db"), folder);
    run(install.args(["--no-defaults", "--skip-test-db", "--auth-root-authentication-method=normal", &data]));

    let grants = folder.join("grants.sql");
    let user = "CREATE USER 'tester'@'%' IDENTIFIED BY 'hunter2';\nGRANT ALL ON *.* TO 'tester'@'%';\n";
    fs::write(&grants, user).unwrap();
    let file = |option: &str, name: &str| format!("--{option}={}", folder.join(name).display());
    let mut server = command(&program("mariadbd"), folder);
    server.args(["--no-defaults", &data, "--bind-address=127.0.0.1", "--skip-name-resolve"]);
    server.args([
        format!("--port={port}"),
        file("socket", "socket"),
        file("pid-file", "pid"),
        file("init-file", "grants.sql"),
    ]);
    if let Some(tls) = tls {
        let [certificate, key] = write(tls, folder).map(|path| path.display().to_string());
        server.args([format!("--ssl-cert={certificate}"), format!("--ssl-key={key}")]);
        server.arg(format!("--require-secure-transport={}", if tls.demanded { "ON" } else { "OFF" }));
    }
    start(&mut server, folder)
}

/// Writes the certificate and the key where the server's user alone can read them, as PostgreSQL demands.
fn write(tls: &Tls, folder: &Path) -> [PathBuf; 2] {
    [("server.pem", &tls.certificate), ("server.key", &tls.key)].map(|(name, content)| {
        let path = folder.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        if is_root() {
            chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        path
    })
}

/// A command in the folder, in the name of a user whom the servers accept.
fn command(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    let log = fs::OpenOptions::new().create(true).append(true).open(folder.join("log")).unwrap();
    // A server of MariaDB that starts deletes the temporary tables of all others that share its folder for them.
    command.current_dir(folder).env("LC_ALL", "C").env("TMPDIR", folder).stdin(Stdio::null());
    command.stdout(log.try_clone().unwrap()).stderr(log);
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

fn run(command: &mut Command) {
    let status = command.status().unwrap();
    let folder = command.get_current_dir().unwrap();
    let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
    assert!(status.success(), "{:?}: {status}\n{log}", command.get_program());
}

fn start(command: &mut Command, folder: &Path) -> Child {
    command.spawn().unwrap_or_else(|error| panic!("{:?} in {folder:?}: {error}", command.get_program()))
}

/// A program of the packages postgresql and mariadb-server, which `make` installs for the tests.
fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let folders = versions
        .map(|version| version.path().join("bin"))
        .chain(["/usr/bin", "/usr/sbin", "/usr/local/bin", "/opt/homebrew/bin"].map(PathBuf::from));
    let found = folders.map(|folder| folder.join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{name} is not installed: run `make postgresql mariadb-server`"))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
