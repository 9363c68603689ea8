//! The table of results that are files. Like those of `store`, every function here runs inside a transaction of the writer.

use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::entry::SpooledEntry;

/// The table, from version 3 of the file on.
pub(super) const TABLE: &str = "CREATE TABLE spooled (
        kind TEXT NOT NULL,
        key TEXT NOT NULL,
        file TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        sha256 TEXT NOT NULL,
        content_type TEXT NOT NULL,
        made_at INTEGER NOT NULL,
        PRIMARY KEY (kind, key)
    ) STRICT;";

/// Notes that the result of a run is a file.
pub(super) fn add(db: &Connection, entry: &SpooledEntry, now: Timestamp) -> rusqlite::Result<()> {
    let SpooledEntry { kind, key, file, sha256, content_type, .. } = entry;
    let bytes = i64::try_from(entry.bytes).unwrap_or(i64::MAX);
    db.prepare_cached(
        "INSERT OR REPLACE INTO spooled (kind, key, file, bytes, sha256, content_type, made_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![kind, key, file, bytes, sha256, content_type, now.as_millisecond()])?;
    Ok(())
}

/// Forgets that the result of a run is a file.
pub(super) fn remove(db: &Connection, kind: &str, key: &str) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM spooled WHERE kind = ?1 AND key = ?2")?.execute([kind, key])?;
    Ok(())
}

/// Reads what an earlier process left behind.
pub(super) fn recover(db: &Connection) -> rusqlite::Result<Vec<SpooledEntry>> {
    let mut spooled = db.prepare("SELECT kind, key, file, bytes, sha256, content_type FROM spooled")?;
    let spooled = spooled.query_map([], |row| {
        Ok(SpooledEntry {
            kind: row.get(0)?,
            key: row.get(1)?,
            file: row.get(2)?,
            bytes: u64::try_from(row.get::<_, i64>(3)?).unwrap_or(0),
            sha256: row.get(4)?,
            content_type: row.get(5)?,
        })
    })?;
    spooled.collect()
}

/// Forgets results that were made before `oldest`. The result of a job that is not answered yet stays, however old it is.
pub(super) fn forget(db: &Connection, oldest: i64) -> rusqlite::Result<()> {
    db.execute(
        "DELETE FROM spooled WHERE made_at < ?1 AND NOT EXISTS (
             SELECT 1 FROM jobs WHERE jobs.kind = spooled.kind AND jobs.key = spooled.key
         )",
        [oldest],
    )?;
    Ok(())
}
