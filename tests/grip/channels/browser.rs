//! Two pages of the chat in a real Chromium: one goes to sleep, loses its connection, and comes back with its history whole.

use std::process::Stdio;

use postern_local::Project;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;

use super::chat::Chat;
use super::links::Link;
use crate::client::within_timeout;

#[tokio::test]
async fn a_page_that_slept_has_its_history_whole() {
    let chat = Chat::start(&[]).await;
    let link = Link::to(chat.clients()).await;
    let project = Project::here().unwrap();
    let mut process = Command::new("node")
        .args(["--no-warnings", "--experimental-websocket"])
        .arg(project.file("tests/grip/channels/browser.mjs"))
        .args([format!("http://{}/", chat.clients()), format!("http://{}/", link.address)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("node is not in the PATH");

    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let first = within_timeout(lines.next_line()).await.unwrap();
    if first.as_deref() == Some("absent") {
        // CI sets the variable, so that there the test cannot be left out.
        assert!(std::env::var_os("POSTERN_REQUIRE_CHROMIUM").is_none(), "Chromium is not installed");
        println!("NOT RUN: Chromium is not installed");
        return;
    }
    assert_eq!(first.as_deref(), Some("cut"));
    link.cut(&mut fastrand::Rng::with_seed(1), 100);
    process.stdin.as_mut().unwrap().write_all(b"done\n").await.unwrap();

    let last = tokio::time::timeout(3 * postern_pushpin::TIMEOUT, lines.next_line()).await;
    assert_eq!(last.unwrap().unwrap().as_deref(), Some("whole"));
}
