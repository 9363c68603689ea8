//! A tenant's workers, from the retained messages in which they report themselves, and the commands to one of them.

use futures_util::future::join_all;
use postern_types::Tenant;
use serde::{Deserialize, Serialize};
use serde_json::{Number, json};

use crate::problem::Problem;
use crate::services::Broker;

/// The most workers of a tenant that are shown.
const WORKERS: usize = 200;

/// The number of retained messages that are read at once.
const AT_ONCE: usize = 10;

/// The most pages of retained topics that are read. A page has 200.
const TOPIC_PAGES: usize = 50;

/// How long a command waits for a worker that is not connected, in seconds.
const COMMAND_SECONDS: i64 = 86_400;

/// The most jobs that a worker can be told to run at once.
const MOST_AT_ONCE: u32 = 1_000;

/// A worker, as its retained message describes it.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all(deserialize = "PascalCase", serialize = "camelCase"))]
pub(crate) struct Worker {
    worker: String,
    state: String,
    version: Option<String>,
    kinds: Vec<String>,
    concurrency: Option<u32>,
    running: Option<u32>,
    waiting: Option<u32>,
    jobs: Vec<String>,
    group: Option<String>,
    certificate_ends: Option<String>,
    started_at: Option<String>,
    at: Option<String>,
}

/// A command to one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Pause,
    Resume,
    Concurrency(u32),
}

impl Command {
    /// The command to run `concurrency` jobs at once.
    pub(crate) fn concurrency(concurrency: &Number) -> Result<Self, Problem> {
        // To JSON Schema, 8.0 is a whole number, too.
        let text = concurrency.to_string();
        let whole: Option<u32> = text.strip_suffix(".0").unwrap_or(&text).parse().ok();

        whole.filter(|number| (1..=MOST_AT_ONCE).contains(number)).map(Self::Concurrency).ok_or_else(|| {
            let problem =
                format!("concurrency is {text}; it must be a whole number from 1 to {MOST_AT_ONCE}");
            Problem::InvalidRequest(problem)
        })
    }

    fn message(self) -> String {
        match self {
            Self::Pause => json!({"Command": "PAUSE"}),
            Self::Resume => json!({"Command": "RESUME"}),
            Self::Concurrency(number) => json!({"Command": "CONCURRENCY", "Concurrency": number}),
        }
        .to_string()
    }
}

/// The workers of a tenant, in the order of their names.
pub(crate) async fn workers(broker: &impl Broker, tenant: &Tenant) -> Result<Vec<Worker>, Problem> {
    let names = names(broker, tenant).await?;

    let mut workers = Vec::with_capacity(names.len());
    for names in names.chunks(AT_ONCE) {
        for worker in join_all(names.iter().map(|name| worker(broker, tenant, name))).await {
            workers.extend(worker?);
        }
    }
    Ok(workers)
}

async fn names(broker: &impl Broker, tenant: &Tenant) -> Result<Vec<String>, Problem> {
    let prefix = format!("{tenant}/workers/");
    let (mut names, mut next) = (Vec::new(), None);
    for _ in 0..TOPIC_PAGES {
        let (topics, token) = broker.retained_topics(next).await?;
        let names_of_page = topics.iter().filter_map(|topic| topic.strip_prefix(&prefix));
        names.extend(names_of_page.filter(|name| is_worker_name(name)).map(str::to_owned));

        next = token;
        if next.is_none() {
            break;
        }
    }

    names.sort();
    names.truncate(WORKERS);
    Ok(names)
}

/// The worker of a name, if there is a retained message that describes it.
async fn worker(broker: &impl Broker, tenant: &Tenant, name: &str) -> Result<Option<Worker>, Problem> {
    let Some(message) = broker.retained(&format!("{tenant}/workers/{name}")).await? else { return Ok(None) };

    let worker = serde_json::from_slice(&message).map(|worker| Worker { worker: name.to_owned(), ..worker });
    if let Err(error) = &worker {
        tracing::warn!(worker = name, "the retained message of a worker is not one: {error}");
    }
    Ok(worker.ok())
}

/// Sends a command to a worker that has reported itself.
pub(crate) async fn command(
    broker: &impl Broker,
    tenant: &Tenant,
    name: &str,
    command: Command,
) -> Result<(), Problem> {
    const NONE: Problem = Problem::NotFound("no worker of this name has reported itself");
    if !is_worker_name(name) || worker(broker, tenant, name).await?.is_none() {
        return Err(NONE);
    }

    broker.publish(&format!("{tenant}/to/worker/{name}"), &command.message(), COMMAND_SECONDS).await?;
    tracing::info!(%tenant, worker = name, ?command, "command sent");
    Ok(())
}

/// Whether a text can be a worker's client id. `cancel` is the topic of cancellations.
fn is_worker_name(name: &str) -> bool {
    Tenant::parse(name).is_ok() && name != "cancel"
}
