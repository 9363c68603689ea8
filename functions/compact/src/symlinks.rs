//! The lists of objects that Athena reads: one text file for each hour and partition, which names the table's objects.
//!
//! <https://docs.aws.amazon.com/athena/latest/ug/connect-to-data-source-hive.html> calls them symlinks.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::config::Config;
use crate::error::Error;
use crate::manifest::{Loaded, Plan, is_current};
use crate::store::{Condition, Put, Store};

/// Writes the lists of the hours that a plan adds to. The plan's objects exist. Returns [`Put::Refused`] if another run
/// has gone further in the meantime: what it wrote must not be replaced by an older list.
pub(crate) async fn write(
    store: &impl Store,
    config: &Config,
    loaded: &Loaded,
    plan: &Plan,
) -> Result<Put, Error> {
    let manifest = &loaded.manifest;
    let hours: BTreeSet<&str> = plan.files.iter().map(|file| file.hour.as_str()).collect();

    for hour in hours {
        let files = manifest.files.iter().chain(&plan.files).filter(|file| file.hour == hour);
        let list: String =
            files.map(|file| format!("s3://{}/{}\n", config.source.bucket, file.key)).collect();

        // The order matters: a run that has gone further has either changed the manifest, or changes the list after it
        // was read here, which the condition of the write notices.
        let key = format!("{}_symlinks/hour={hour}/{}.txt", config.table_prefix(), manifest.partition);
        let present = store.get(&key).await?;
        if present.as_ref().is_some_and(|(body, _)| body == list.as_bytes()) {
            continue;
        }
        if !is_current(store, loaded).await? {
            return Ok(Put::Refused);
        }
        let condition = Condition::unchanged(present.as_ref().map(|(_, etag)| etag.as_str()));
        if store.put(&key, Bytes::from(list), condition).await? == Put::Refused {
            return Ok(Put::Refused);
        }
    }
    Ok(Put::Written)
}
