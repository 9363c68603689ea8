//! Faults at random: the function and the proxy are killed and started again, connections are cut, the table throttles, and
//! histories are deleted. Every client must see each item of its channel once and in order, or a loss that was one.
//!
//! `POSTERN_GRIP_CLIENTS`, `POSTERN_GRIP_ITEMS` and `POSTERN_GRIP_SEED` change the size; `make soak-grip` runs 200 clients
//! and 20,000 items. The seed decides the plan of faults, not the times at which processes do what.

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use grip::channels::Action;
use postern_local::{Emulator, EmulatorOptions, Project};
use postern_pushpin::post;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::chat::{Chat, anonymous_token, token};
use super::links::{Link, Throttle};
use super::table::{self, TABLE};
use super::verdict::{Event, Truth, judge};

/// The publishers, each of which publishes one item after another.
const PUBLISHERS: usize = 4;

/// The channels, to each of which every fourth client listens.
const CHANNELS: usize = 4;

/// The number of items that are published while no client has a connection.
const OUTAGE: usize = 16;

/// How long the clients may take, after the faults are over, until they have everything.
const CATCH_UP: Duration = Duration::from_mins(3);

/// How long it may take until one more item is published.
const STUCK: Duration = Duration::from_mins(2);

/// The size of a run.
#[derive(Clone, Copy)]
struct Size {
    clients: usize,
    items: usize,
    seed: u64,
}

impl Size {
    fn from_env() -> Self {
        let number = |name: &str, default| {
            std::env::var(name)
                .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is {text}")))
        };
        Self {
            clients: number("POSTERN_GRIP_CLIENTS", 24),
            items: number("POSTERN_GRIP_ITEMS", 400),
            seed: u64::try_from(number("POSTERN_GRIP_SEED", 1)).unwrap(),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_client_sees_each_item_once_and_in_order_or_learns_of_a_real_loss() {
    let size = Size::from_env();
    let wrong = run("faults", size, "none").await;
    assert!(wrong.is_empty(), "seed {}: {}", size.seed, wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_check_finds_a_client_that_does_not_wait_for_the_item_before() {
    let wrong = run("faults-no-order", Size { clients: 8, items: 200, seed: 2 }, "no-order").await;
    assert!(wrong.iter().any(|line| line.starts_with("client")), "{wrong:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_check_finds_a_client_that_does_not_ask_for_what_it_missed() {
    let wrong = run("faults-no-replay", Size { clients: 8, items: 200, seed: 3 }, "no-replay").await;
    assert!(wrong.iter().any(|line| line.starts_with("client")), "{wrong:?}");
}

/// One run. Returns what is wrong, one line for each client, and one for what is wrong with the history or the run.
async fn run(name: &str, size: Size, sabotage: &str) -> Vec<String> {
    let project = Project::here().unwrap();
    let folder = project.fresh_folder(&format!("grip-{name}")).unwrap();
    let emulator = Emulator::start(&project, &folder, EmulatorOptions::default()).await.unwrap();
    let database = aws_sdk_dynamodb::Client::new(&emulator.sdk_config());
    table::create(&database).await;

    let address = emulator.endpoint().strip_prefix("http://").unwrap().parse().unwrap();
    let throttle = Throttle::before(address, size.seed).await;
    let through = format!("http://{}", throttle.server.address());
    let mut variables: Vec<(&str, &str)> = vec![("CHAT_TABLE", TABLE), ("CHAT_KEEP_ALIVE", "20")];
    let aws = emulator.environment();
    variables.extend(aws.iter().map(|(name, value)| (*name, value.as_str())));
    variables.push(("AWS_ENDPOINT_URL", &through));
    let mut chat = Chat::start(&variables).await;
    let link = Link::to(chat.clients()).await;

    let mut clients = Clients::start(&project, &link, size, sabotage);
    let mut truth = Truth::default();
    let publishers = Publishers::start(&chat, size);
    disturb(size, &publishers, &mut chat, &link, &throttle, &database, &mut truth).await;
    publishers.finish(&chat, &link).await;

    for n in 0..CHANNELS {
        table::read(&database, &format!("room.{n}"), &mut truth).await;
    }
    let events =
        clients.finish(&truth, if sabotage == "none" { CATCH_UP } else { Duration::from_secs(20) }).await;
    verdict(size, &truth, events)
}

fn verdict(size: Size, truth: &Truth, events: Vec<Event>) -> Vec<String> {
    let mut of: Vec<Vec<Event>> = (0..size.clients).map(|_| Vec::new()).collect();
    for event in events {
        of[event.client].push(event);
    }

    let mut losses = 0;
    let judged = of.iter().enumerate().filter_map(|(n, events)| {
        match judge(truth, &format!("room.{}", n % CHANNELS), events) {
            Ok(told) => {
                losses += told;
                None
            }
            Err(problem) => Some(format!("client {n} {problem}")),
        }
    });
    let mut wrong: Vec<String> = judged.collect();
    wrong.extend(truth.twice().map(|item| format!("the history had the item twice: {item}")));
    // A run without a loss does not show that losses are told.
    if losses == 0 {
        wrong.push("no client lost an item".to_owned());
    }
    println!(
        "{} items, {} deleted, {losses} losses told, {} wrong",
        truth.items.len(),
        truth.deleted.len(),
        wrong.len()
    );
    wrong
}

/// Makes faults until the publishers have published.
async fn disturb(
    size: Size,
    publishers: &Publishers,
    chat: &mut Chat,
    link: &Link,
    throttle: &Throttle,
    database: &aws_sdk_dynamodb::Client,
    truth: &mut Truth,
) {
    let mut random = fastrand::Rng::with_seed(size.seed);
    let mut kinds: Vec<u8> = Vec::new();
    // The faults are spread over the items, not over the time, so that a slow machine has as many.
    let every = (size.items / 12).max(20);
    for next in (every..size.items).step_by(every) {
        publishers.wait_for(next, chat).await;
        throttle.percent.store(random.u32(..30), Ordering::SeqCst);

        // Each kind of fault comes once before one comes again.
        if kinds.is_empty() {
            kinds = (0..6).collect();
            random.shuffle(&mut kinds);
        }
        match kinds.pop() {
            Some(0) => chat.restart_function().await,
            Some(1) => chat.restart_pushpin().await,
            // With random numbers of its own: how many it takes depends on the number of connections.
            Some(2) => link.cut(&mut random.fork(), 50),
            // Items are published that no client can receive live.
            Some(3) => {
                link.fail();
                publishers.wait_for_more(OUTAGE, chat).await;
                link.restore();
            }
            Some(4) => lose(&mut random, publishers, chat, link, database, truth).await,
            _ => {
                let channel = format!("room.{}", random.usize(..CHANNELS));
                table::delete_but(database, &channel, random.usize(..10), truth).await;
            }
        }
    }
    publishers.wait_for(size.items, chat).await;
    throttle.percent.store(0, Ordering::SeqCst);
}

/// Deletes all items of one channel and all but the newest of another, while no client has a connection and after more
/// items were published. Every client of the two channels misses items that it cannot get back.
async fn lose(
    random: &mut fastrand::Rng,
    publishers: &Publishers,
    chat: &mut Chat,
    link: &Link,
    database: &aws_sdk_dynamodb::Client,
    truth: &mut Truth,
) {
    link.fail();
    publishers.wait_for_more(OUTAGE, chat).await;

    // Without the process that remembers the position, the empty history starts anew, with another epoch.
    chat.kill_function().await;
    let first = random.usize(..CHANNELS);
    table::delete_but(database, &format!("room.{first}"), 0, truth).await;
    table::delete_but(database, &format!("room.{}", (first + 1) % CHANNELS), 1, truth).await;
    chat.start_function().await;
    link.restore();
}

/// Publishers that go on, whatever happens, until together they have published all items.
struct Publishers {
    published: Arc<AtomicUsize>,
    tasks: Vec<JoinHandle<()>>,
    authorization: String,
    /// How many items they publish.
    items: usize,
}

impl Publishers {
    fn start(chat: &Chat, size: Size) -> Self {
        let published = Arc::new(AtomicUsize::new(0));
        let token = token("publisher", "room.*", &[Action::Publish], Duration::from_hours(4));
        let authorization = format!("Bearer {token}");

        let function = chat.function();
        let publish = |publisher: usize| {
            let (published, authorization) = (Arc::clone(&published), authorization.clone());
            async move {
                let mut serial = 0;
                while published.load(Ordering::SeqCst) < size.items {
                    serial += 1;
                    let path = format!("/channels/room.{}", (serial + publisher) % CHANNELS);
                    let body = format!(r#"{{"publisher":{publisher},"serial":{serial}}}"#);
                    let sent = timeout(
                        Duration::from_secs(20),
                        post(function, &path, Some(&authorization), body.as_bytes()),
                    );
                    // An item of which the publisher does not know whether it was added is not published again.
                    match sent.await {
                        Ok(Ok(answer)) if answer.status.is_success() => {
                            published.fetch_add(1, Ordering::SeqCst);
                        }
                        _ => tokio::time::sleep(Duration::from_millis(20)).await,
                    }
                }
            }
        };
        let tasks = (0..PUBLISHERS).map(|n| tokio::spawn(publish(n))).collect();
        Self { published, tasks, authorization, items: size.items }
    }

    /// Waits until this many items are published. However slow the machine is, an item is published now and then. A Pushpin
    /// that ends by itself meanwhile is started again.
    async fn wait_for(&self, items: usize, chat: &mut Chat) {
        let (mut seen, mut since) = (0, Instant::now());
        while seen < items {
            if chat.revive_pushpin().await {
                println!("Pushpin ended by itself after {seen} items, and was started again");
            }
            let now = self.published.load(Ordering::SeqCst);
            if now > seen {
                (seen, since) = (now, Instant::now());
            }
            assert!(since.elapsed() < STUCK, "after {seen} items, none was published within {STUCK:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until this many more items are published, or until the publishers have published all.
    async fn wait_for_more(&self, items: usize, chat: &mut Chat) {
        let published = self.published.load(Ordering::SeqCst);
        self.wait_for(self.items.min(published + items), chat).await;
    }

    /// Ends the publishers, and publishes one item to each channel while nothing fails any more. Half of the channels end
    /// while no client has a connection: their last item can only come from the history.
    async fn finish(self, chat: &Chat, link: &Link) {
        for task in self.tasks {
            task.await.unwrap();
        }
        link.fail();
        for n in 0..CHANNELS {
            if n == CHANNELS / 2 {
                link.restore();
            }
            let path = format!("/channels/room.{n}");
            let answer = post(chat.function(), &path, Some(&self.authorization), br#"{"text":"the end"}"#)
                .await
                .unwrap();
            assert_eq!(answer.status, 200);
        }
    }
}

/// The token of all clients. In a large run it cannot be revoked: reading the revocations for every long-poll would take
/// half of the emulated table's time.
fn clients_token(size: Size) -> String {
    let life = Duration::from_hours(4);
    match size.clients {
        ..=50 => token("client", "room.*", &[Action::Subscribe], life),
        _ => anonymous_token("room.*", &[Action::Subscribe], life),
    }
}

/// The clients, in a process of Node.
struct Clients {
    process: Child,
    events: JoinHandle<Vec<Event>>,
}

impl Clients {
    fn start(project: &Project, link: &Link, size: Size, sabotage: &str) -> Self {
        let mut process = Command::new("node")
            .args(["--no-warnings", "--experimental-websocket"])
            .arg(project.file("tests/grip/channels/clients.mjs"))
            .arg(project.file("shared/grip/client/grip-channels.js"))
            .arg(format!("ws://{}/channels", link.address))
            .args([size.clients.to_string(), CHANNELS.to_string(), sabotage.to_owned()])
            .env("TOKEN", clients_token(size))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node is not in the PATH");

        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let events = tokio::spawn(async move {
            let mut events = Vec::new();
            while let Ok(Some(line)) = lines.next_line().await {
                events.push(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}")));
            }
            events
        });
        Self { process, events }
    }

    /// Waits until every client has reached the end of its channel, or the time is up. Returns all events.
    async fn finish(&mut self, truth: &Truth, limit: Duration) -> Vec<Event> {
        let last: HashMap<_, _> = truth.last.iter().map(|(name, at)| (name, at.to_string())).collect();
        let line = format!("{}\n", serde_json::to_string(&last).unwrap());
        self.process.stdin.as_mut().unwrap().write_all(line.as_bytes()).await.unwrap();

        if timeout(limit, self.process.wait()).await.is_err() {
            self.process.kill().await.unwrap();
        }
        (&mut self.events).await.unwrap()
    }
}
