//! The manifest of a partition: which records are in the table and in which objects, and the plan that is carried out.
//!
//! The manifest is the only thing that a run changes. Every change is a compare-and-swap: a run that read an older
//! manifest is refused, reads again, and goes on from there.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::error::Error;
use crate::ranges::Ranges;
use crate::store::{Condition, Put, Store};

/// The version of the manifest's format.
const VERSION: u32 = 1;

/// An object of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableFile {
    /// The S3 key.
    pub key: String,
    /// The hour of the records' timestamps, such as `2026-01-01T00`, or `undated`.
    pub hour: String,
    /// The offset of the first row.
    pub first: u64,
    /// The offset of the last row.
    pub last: u64,
    /// The number of rows.
    pub rows: u64,
}

/// An object that a plan reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedSource {
    /// The S3 key.
    pub key: String,
    /// The `ETag`, with its quotes.
    pub etag: String,
}

/// The exact work of one run. It is in the manifest before any object of it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The offsets that this plan adds to the table, tombstones included.
    pub ranges: Ranges,
    /// The objects to write.
    pub files: Vec<TableFile>,
    /// The objects to read, in the order of their first offsets.
    pub sources: Vec<PlannedSource>,
    /// The objects with gaps that have to be remembered once the plan is carried out.
    pub examined: BTreeSet<String>,
}

/// The manifest of a partition. Readers need `files` only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of this format.
    pub version: u32,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The objects of the table, by hour and first offset.
    pub files: Vec<TableFile>,
    /// The offsets of the records in the table, tombstones included.
    pub ranges: Ranges,
    /// Objects of msk-to-s3 with gaps whose rows are all in the table, as long as these objects exist.
    pub examined: BTreeSet<String>,
    /// The plan that is being carried out.
    pub pending: Option<Plan>,
}

impl Manifest {
    fn new(config: &Config, partition: u32) -> Self {
        Self { version: VERSION, topic: config.topic.clone(), partition, ..Self::default() }
    }

    /// The manifest after its pending plan has been carried out.
    pub(crate) fn completed(mut self) -> Self {
        let Some(plan) = self.pending.take() else { return self };

        self.ranges.extend(&plan.ranges);
        self.files.extend(plan.files);
        self.files.sort_by(|one, other| (&one.hour, one.first).cmp(&(&other.hour, other.first)));
        self.examined = plan.examined;
        self
    }
}

/// A manifest as it was read, with what a compare-and-swap needs.
pub(crate) struct Loaded {
    key: String,
    etag: Option<String>,
    pub(crate) manifest: Manifest,
}

/// The key of a partition's manifest.
pub(crate) fn key(config: &Config, partition: u32) -> String {
    format!("{}_manifests/{partition}.json", config.table_prefix())
}

/// Reads the manifest of a partition. A partition without one has an empty table.
pub(crate) async fn load(store: &impl Store, config: &Config, partition: u32) -> Result<Loaded, Error> {
    let key = key(config, partition);
    let Some((body, etag)) = store.get(&key).await? else {
        return Ok(Loaded { key, etag: None, manifest: Manifest::new(config, partition) });
    };

    let invalid = |problem: String| Error::InvalidManifest { key: key.clone(), problem };
    let manifest: Manifest = serde_json::from_slice(&body).map_err(|error| invalid(error.to_string()))?;
    if manifest.version != VERSION || manifest.partition != partition || manifest.topic != config.topic {
        return Err(invalid(format!(
            "it is of version {}, topic {} and partition {}",
            manifest.version, manifest.topic, manifest.partition
        )));
    }

    Ok(Loaded { key, etag: Some(etag), manifest })
}

/// Replaces the manifest if it is still the one that was loaded.
pub(crate) async fn replace(store: &impl Store, loaded: &Loaded, with: &Manifest) -> Result<Put, Error> {
    let body = serde_json::to_vec(with).map_err(|error| Error::Encoding(error.to_string()))?;
    store.put(&loaded.key, Bytes::from(body), Condition::unchanged(loaded.etag.as_deref())).await
}

/// Whether the manifest is still the one that was loaded.
pub(crate) async fn is_current(store: &impl Store, loaded: &Loaded) -> Result<bool, Error> {
    let current = store.get(&loaded.key).await?;
    Ok(current.map(|(_, etag)| etag) == loaded.etag)
}
