//! The example `grip-chat` behind a real Pushpin, with two clients.

use std::process::Stdio;
use std::time::Duration;

use postern_pushpin::{Ports, Route};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use crate::client::{Client, within_timeout};
use crate::stack::{Stack, turn};

/// Starts the example, and a Pushpin in front of it. The example chooses a free port and prints its address.
async fn start() -> Stack<Child> {
    let turn = turn().await;
    let ports = Ports::free().unwrap();
    let program = postern_local::Project::here().unwrap().program("grip-chat");
    let mut process = Command::new(program)
        .env("GRIP_URL", ports.control())
        .env("PORT", "0")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();

    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let line = within_timeout(lines.next_line()).await.unwrap().unwrap();
    let (_, address) = line.rsplit_once("http://").unwrap();
    let route = Route::all(address.parse().unwrap());
    Stack::launch(turn, ports, process, route).await
}

/// Enters the room, and waits until the room's messages arrive.
async fn enter(stack: &Stack<Child>, name: &str) -> Client {
    let mut client = stack.connect_to(&format!("/{name}")).await.unwrap();

    for n in 0.. {
        client.send(format!("probe {n}")).await;
        let probe = Message::text(format!("{name}: probe {n}"));
        if timeout(Duration::from_millis(100), client.skip_to(&probe)).await.is_ok() {
            break;
        }
    }
    client
}

#[tokio::test]
async fn everybody_in_the_room_receives_what_one_client_writes() {
    let stack = start().await;
    let mut ann = enter(&stack, "ann").await;
    let mut bob = enter(&stack, "bob").await;
    ann.skip_to(&Message::text("bob joined")).await;

    for text in ["hello, bob", "c:{\"type\":\"detach\"}", "Zoë 🦀"] {
        ann.send(text).await;
        let expected = Message::text(format!("ann: {text}"));
        ann.skip_to(&expected).await;
        bob.skip_to(&expected).await;
    }
    bob.send("hello, ann").await;
    ann.skip_to(&Message::text("bob: hello, ann")).await;
}

#[tokio::test]
async fn the_room_learns_who_left_with_and_without_a_goodbye() {
    let stack = start().await;
    let mut ann = enter(&stack, "ann").await;

    let mut bob = enter(&stack, "bob").await;
    within_timeout(bob.0.close(None)).await.unwrap();
    ann.skip_to(&Message::text("bob left")).await;

    let cleo = enter(&stack, "cleo").await;
    drop(cleo);
    ann.skip_to(&Message::text("cleo left")).await;
}
