//! The example `grip-chat` as a process that can be killed and started again, with its Pushpin.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use grip::Key;
use grip::channels::{Action, Grant, Identity, JwtAuthorizer};
use postern_local::Project;
use postern_pushpin::{Ports, Pushpin, Route};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::client::within_timeout;
use crate::stack::{Turn, turn};

/// The secret that signs the tokens of users.
const KEY: &str = "the key of these tests";

/// The secret that Pushpin signs its requests with.
const PROXY_KEY: &str = "the-key-of-this-pushpin";

/// The chat, and the Pushpin in front of it.
pub(super) struct Chat {
    _turn: Turn,
    ports: Ports,
    address: SocketAddr,
    variables: Vec<(String, String)>,
    process: Option<Child>,
    pushpin: Option<Pushpin>,
}

impl Chat {
    /// Starts the chat with further environment variables.
    pub(super) async fn start(variables: &[(&str, &str)]) -> Self {
        let turn = turn().await;
        let ports = Ports::free().unwrap();
        let url = format!("{}/?verify-iss=pushpin&verify-key={PROXY_KEY}", ports.control());
        let mut all = vec![("GRIP_URL".to_owned(), url), ("CHAT_KEY".to_owned(), KEY.to_owned())];
        all.extend(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));

        let free = SocketAddr::from(([127, 0, 0, 1], postern_testing::free_port().unwrap()));
        let mut chat =
            Self { _turn: turn, ports, address: free, variables: all, process: None, pushpin: None };
        chat.start_function().await;
        chat.start_pushpin().await;
        chat
    }

    /// Where clients connect.
    pub(super) fn clients(&self) -> SocketAddr {
        self.pushpin.as_ref().unwrap().clients()
    }

    /// Where the chat itself listens, without the proxy.
    pub(super) fn function(&self) -> SocketAddr {
        self.address
    }

    /// The proxy's control endpoint.
    pub(super) fn control(&self) -> String {
        self.ports.control()
    }

    /// Kills the chat without a warning, and starts it again on the same port.
    pub(super) async fn restart_function(&mut self) {
        self.kill_function().await;
        self.start_function().await;
    }

    /// Kills the chat without a warning.
    pub(super) async fn kill_function(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().await.unwrap();
        }
    }

    /// Stops Pushpin, which ends every connection, and starts it again on the same ports.
    pub(super) async fn restart_pushpin(&mut self) {
        drop(self.pushpin.take());
        self.start_pushpin().await;
    }

    /// Starts Pushpin again if it has ended by itself, as a supervisor does. Returns whether it had.
    pub(super) async fn revive_pushpin(&mut self) -> bool {
        let has_ended = self.pushpin.as_mut().is_some_and(Pushpin::has_ended);
        if has_ended {
            self.restart_pushpin().await;
        }
        has_ended
    }

    /// Starts the chat, which was killed, on the same port.
    pub(super) async fn start_function(&mut self) {
        let program = Project::here().unwrap().program("grip-chat");
        let mut process = Command::new(program)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .env("PORT", self.address.port().to_string())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();

        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        within_timeout(lines.next_line()).await.unwrap().expect("grip-chat ended");
        self.process = Some(process);
    }

    async fn start_pushpin(&mut self) {
        let route = Route::all(self.address).signed("pushpin", PROXY_KEY);
        let started = Pushpin::start(self.ports, &[route]).await;
        self.pushpin = Some(started.unwrap_or_else(|error| panic!("{error}")));
    }
}

/// A token of the chat for this subject and these channels.
pub(super) fn token(subject: &str, pattern: &str, actions: &[Action], life: Duration) -> String {
    let token_id = Some(format!("token of {subject}"));
    issue(
        Identity { subject: Some(subject.to_owned()), token_id, ..Identity::default() },
        pattern,
        actions,
        life,
    )
}

/// A token without a subject and a name of its own, which cannot be revoked.
pub(super) fn anonymous_token(pattern: &str, actions: &[Action], life: Duration) -> String {
    issue(Identity::default(), pattern, actions, life)
}

fn issue(user: Identity, pattern: &str, actions: &[Action], life: Duration) -> String {
    let user = Identity { grants: vec![Grant::new(pattern, actions.iter().copied())], ..user };
    let tokens = JwtAuthorizer::new(Key::parse(KEY).unwrap()).issuer("grip-chat");
    tokens.issue(&user, life).unwrap()
}
