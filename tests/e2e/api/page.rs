//! The console's page in a real Chromium, against the real API, worker and GRIP proxy. `tests/console` has the tests of the
//! page alone.

use std::path::Path;
use std::process::Stdio;

use postern_pushpin::Ports;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use super::console::Console;
use super::proxy::{live, proxy};
use crate::stack::TIMEOUT;

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_works_with_the_page_while_the_proxy_is_killed_and_restarted() {
    let ports = Ports::free().unwrap();
    let (mut console, pushpin) = live("api-page-browser", ports).await;
    let mut pushpin = Some(pushpin);
    console.stack.test_worker().await;

    let done = console.stack.folder.join("done");
    let mut page = Page::open(&console, "real.mjs", &done);
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

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_every_change_without_its_regular_check() {
    let ports = Ports::free().unwrap();
    let (mut console, _pushpin) = live("api-page-hints", ports).await;

    // The broker keeps jobs for a worker that has connected once. The worker comes back when the page has seen the dispatch.
    console.stack.test_worker().await.stop().unwrap();
    let (operator, approver) = (console.token("operator1"), console.token("approver1"));
    let done = console.stack.folder.join("done");
    let mut page = Page::open(&console, "hints.mjs", &done);
    while let Some(request) = page.request().await {
        match request.as_str() {
            "start-job" => console.begin(&operator, "on-prem-job", &json!({"until": done})).await,
            "start-worker" => {
                console.stack.test_worker().await;
            }
            "finish-job" => std::fs::write(&done, "").unwrap(),
            "start-approval" => {
                let question = json!({"question": "Copy it?", "job": {"a": 15, "b": 42}});
                console.begin(&operator, "approve", &question).await;
            }
            "approve" => {
                let waiting = console.job(&operator, |job| job["approval"] == true).await;
                let approve = format!("/jobs/{}/approve", waiting["jobId"].as_str().unwrap());
                assert_eq!(console.post(&approve, &approver, &json!({})).await, 202);
            }
            other => panic!("the page's test asks for {other:?}"),
        }
        page.go_on().await;
    }
}

/// The script that drives the browser.
struct Page {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Page {
    fn open(console: &Console, script: &str, done: &Path) -> Self {
        let mut process = Command::new("node")
            .args(["--no-warnings", "--experimental-websocket"])
            .arg(console.stack.project.file("tests/console").join(script))
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
