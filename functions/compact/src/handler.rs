//! The handler: lists the partitions, or compacts one of them a step further.

use jiff::Timestamp;
use postern_runtime::metrics;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::error::Error;
use crate::execute::write_files;
use crate::manifest::{self, Loaded, Manifest, Plan};
use crate::plan::{self, Clock};
use crate::store::{Put, Store};
use crate::symlinks;

/// The number of times that a run gives way to another one before it fails.
const MAX_CONFLICTS: u32 = 8;

/// The input of an invocation.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Input {
    /// The partition to compact. Without it the answer lists the partitions.
    pub partition: Option<u32>,
    /// Hours that end at this time or before are closed. By default it is the current time minus the grace period.
    pub closed_before: Option<Timestamp>,
}

/// The answer of an invocation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// The inputs of the invocations that compact the partitions.
    #[serde(rename_all = "PascalCase")]
    Partitions {
        /// One input for each partition.
        partitions: Vec<PartitionInput>,
    },
    /// The outcome for one partition.
    Compacted(Compacted),
}

/// The input of an invocation that compacts a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PartitionInput {
    /// The partition.
    pub partition: u32,
    /// Hours that end at this time or before are closed.
    pub closed_before: Timestamp,
}

/// What an invocation did for a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Compacted {
    /// The partition.
    pub partition: u32,
    /// The same time as in the input.
    pub closed_before: Timestamp,
    /// The number of objects that the invocation added to the table.
    pub files: usize,
    /// The number of rows in them.
    pub rows: u64,
    /// Whether records are left for another invocation.
    pub more: bool,
}

/// Answers an invocation.
pub async fn handle(store: &impl Store, config: &Config, event: &str) -> Result<Answer, Error> {
    let input: Input = serde_json::from_str(event).map_err(|error| Error::InvalidInput(error.to_string()))?;
    let closed_before = input.closed_before.unwrap_or_else(|| Timestamp::now() - config.grace);

    let Some(partition) = input.partition else {
        let folders = store.folders(&format!("{}{}/", config.source.prefix, config.topic)).await?;
        let mut partitions: Vec<u32> = folders.iter().filter_map(|folder| folder.parse().ok()).collect();
        partitions.sort_unstable();
        let partitions =
            partitions.into_iter().map(|partition| PartitionInput { partition, closed_before }).collect();
        return Ok(Answer::Partitions { partitions });
    };

    let done = Box::pin(compact(store, config, partition, closed_before)).await?;
    metrics::add("CompactedFiles", done.files);
    metrics::add("CompactedRows", usize::try_from(done.rows).unwrap_or(usize::MAX));
    tracing::info!(partition, files = done.files, rows = done.rows, more = done.more, "partition compacted");
    Ok(Answer::Compacted(done))
}

/// Carries out the plan that another run left, or makes one and carries it out.
pub async fn compact(
    store: &impl Store,
    config: &Config,
    partition: u32,
    closed_before: Timestamp,
) -> Result<Compacted, Error> {
    let clock = Clock { closed_before: closed_before.as_millisecond() };
    let nothing = Compacted { partition, closed_before, files: 0, rows: 0, more: false };
    // The plan of an earlier run does not cover the records that came since, so there may be more.
    let mut more = true;

    for _ in 0..MAX_CONFLICTS {
        let loaded = manifest::load(store, config, partition).await?;
        if let Some(plan) = &loaded.manifest.pending {
            if Box::pin(carry_out(store, config, &loaded, plan)).await? == Put::Written {
                let rows = plan.files.iter().map(|file| file.rows).sum();
                return Ok(Compacted { files: plan.files.len(), rows, more, ..nothing });
            }
            continue;
        }

        let Some(planned) = Box::pin(plan::next(store, config, &loaded.manifest, clock)).await? else {
            return Ok(nothing);
        };
        let with_plan = Manifest { pending: Some(planned.plan), ..loaded.manifest.clone() };
        // The run reads the manifest again in both cases, because an answer that was lost looks like a refusal.
        if manifest::replace(store, &loaded, &with_plan).await? == Put::Written {
            more = planned.more;
        }
    }
    Err(Error::Conflict(manifest::key(config, partition)))
}

/// Carries out a plan and takes it out of the manifest.
async fn carry_out(store: &impl Store, config: &Config, loaded: &Loaded, plan: &Plan) -> Result<Put, Error> {
    write_files(store, config, plan).await?;
    if symlinks::write(store, config, loaded, plan).await? == Put::Refused {
        return Ok(Put::Refused);
    }
    manifest::replace(store, loaded, &loaded.manifest.clone().completed()).await
}
