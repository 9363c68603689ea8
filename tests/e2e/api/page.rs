//! The console's page in a real Chromium, against the real API, worker and GRIP proxy. `tests/console` has the tests of the
//! page alone.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use postern_pushpin::{Ports, Pushpin, Route};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use super::console::Console;
use crate::stack::{MACHINE, TIMEOUT};

/// The key with which the proxy signs its requests.
const KEY: &str = "changeme";

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_works_with_the_page_while_the_proxy_is_killed_and_restarted() {
    let ports = Ports::free().unwrap();
    let mut console = Console::start("api-page-browser").await;
    let mut pushpin = Some(proxy(&console, ports).await);
    connect(&mut console, ports, pushpin.as_ref().unwrap().clients()).await;
    console.stack.test_worker().await;

    let done = console.stack.folder.join("done");
    let mut page = Page::open(&console, &done);
    while let Some(request) = page.request().await {
        match request.as_str() {
            "kill-proxy" => drop(pushpin.take()),
            "start-proxy" => pushpin = Some(proxy(&console, ports).await),
            "finish-job" => std::fs::write(&done, "").unwrap(),
            other => panic!("the page's test asks for {other:?}"),
        }
        page.go_on().await;
    }
}

/// A proxy that passes the requests for `/live` to the API.
async fn proxy(console: &Console, ports: Ports) -> Pushpin {
    let endpoint = console.stack.emulator.endpoint();
    let gateway: SocketAddr = endpoint.trim_start_matches("http://").parse().unwrap();

    let route = Route::path("/live", gateway).host(&console.host()).signed("pushpin", KEY);
    Pushpin::start(ports, &[route]).await.unwrap()
}

/// Tells the stack of its proxy, and has its jobs run in the handler `steps`.
async fn connect(console: &mut Console, ports: Ports, clients: SocketAddr) {
    let keys = json!({
        "GRIP_URL": ports.control(), "GRIP_VERIFY_KEY": KEY, "GRIP_CHANNEL_KEY": "base64:dGlja2V0LWtleS10aWNrZXQta2V5LXRpY2tldC1rZXk=",
    });
    let secret = console.stack.emulator.create_secret("grip", &keys.to_string()).await.unwrap();

    let deployment = console
        .deployment()
        .parameter("GripSecretArn", &secret)
        .parameter("LiveUrl", &format!("ws://{clients}/live"))
        .edit(MACHINE, r#""Kind": "add""#, r#""Kind": "steps""#);
    console.stack.outputs = console.stack.emulator.deploy(&deployment).await.unwrap();
}

/// The script that drives the browser.
struct Page {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Page {
    fn open(console: &Console, done: &Path) -> Self {
        let mut process = Command::new("node")
            .args(["--no-warnings", "--experimental-websocket"])
            .arg(console.stack.project.file("tests/console/real.mjs"))
            .arg(format!("{}/", console.stack.outputs.get("ConsoleUrl")))
            .arg(done)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node is not in the PATH");
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines }
    }

    /// The next thing that the script asks for, or `None` when all of it was true.
    #[expect(clippy::print_stdout, reason = "whoever reads the results must see that this one says nothing")]
    async fn request(&mut self) -> Option<String> {
        let line = timeout(10 * TIMEOUT, self.lines.next_line()).await.unwrap().unwrap();
        let line = line.expect("the page's test failed: its output is above");
        if line == "absent" {
            // CI sets the variable, so that there the test cannot be left out.
            assert!(std::env::var_os("POSTERN_REQUIRE_CHROMIUM").is_none(), "Chromium is not installed");
            postern_local::say("NOT RUN: Chromium is not installed");
            return None;
        }
        (line != "true").then_some(line)
    }

    async fn go_on(&mut self) {
        self.process.stdin.as_mut().unwrap().write_all(b"done\n").await.unwrap();
    }
}
