//! The journal's file: SQLite, in write-ahead mode, with one sync a transaction. Every function here runs inside
//! a transaction of the writer; none begins or commits one.
//!
//! An operator can read the file while the worker runs:
//!
//! ```text
//! sqlite3 -readonly journal.sqlite 'SELECT job_id, kind, started FROM jobs'
//! ```

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, params};

use postern_types::JobId;

use super::entry::{
    Admitted, Answer, Cancel, Entry, Finished, JournalError, Memory, NewJob, Recovered, RecoveredJob,
};
use super::spooled;

/// The changes from each format version to the next one. The version of a file is the number of entries that
/// were applied to it. Entries are never changed, only added.
pub(super) const MIGRATIONS: &[&str] = &[
    // Version 1.
    "CREATE TABLE jobs (
        seq INTEGER PRIMARY KEY,
        job_id TEXT NOT NULL UNIQUE,
        kind TEXT NOT NULL,
        key TEXT NOT NULL,
        message BLOB NOT NULL,
        started INTEGER NOT NULL DEFAULT 0,
        received_at INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX jobs_by_key ON jobs (kind, key);
    CREATE TABLE answers (
        id INTEGER PRIMARY KEY,
        job_id TEXT UNIQUE,
        payload BLOB NOT NULL,
        deadline INTEGER,
        made_at INTEGER NOT NULL,
        sent INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE INDEX answers_to_send ON answers (id) WHERE sent = 0;
    CREATE TABLE results (
        kind TEXT NOT NULL,
        key TEXT NOT NULL,
        result TEXT NOT NULL,
        made_at INTEGER NOT NULL,
        PRIMARY KEY (kind, key)
    ) STRICT;
    CREATE INDEX results_by_age ON results (made_at);",
    // Version 2.
    "ALTER TABLE jobs ADD COLUMN progress TEXT;
    CREATE TABLE cancels (
        seq INTEGER PRIMARY KEY,
        job_id TEXT NOT NULL UNIQUE,
        reason TEXT NOT NULL,
        expires_at INTEGER NOT NULL
    ) STRICT;",
    // Version 3.
    spooled::TABLE,
];

/// How much the journal remembers.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// How long sent answers and results are remembered.
    pub age: Duration,
    /// How many bytes of sent answers are remembered at most. The oldest are forgotten first.
    pub bytes: u64,
}

/// The name of the journal's file in the state directory.
const FILE: &str = "journal.sqlite";

/// Opens the journal of `directory`, checks it for damage, and brings it to the newest format version.
pub(super) fn open(directory: &Path) -> Result<Connection, JournalError> {
    let file = directory.join(FILE);
    let mut db = connect(&file).map_err(|error| unreadable(&file, error))?;

    let finding: String = db
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|error| unreadable(&file, error))?;
    if finding != "ok" {
        return Err(JournalError::Damaged { file, finding });
    }

    migrate(&mut db, &file)?;
    Ok(db)
}

/// The format version of the journal in `directory`, and `None` where there is none yet. Changes nothing, and can be
/// called while a worker has the journal open.
pub(crate) fn format(directory: &Path) -> Result<Option<i64>, JournalError> {
    let file = directory.join(FILE);
    if !file.exists() {
        return Ok(None);
    }

    let failed = |error| unreadable(&file, error);
    let db = Connection::open_with_flags(&file, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(failed)?;
    let finding: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
    let found = db.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;

    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    match finding.as_str() {
        "ok" if found <= known => Ok(Some(found)),
        "ok" => Err(JournalError::TooNew { file, found, known }),
        _ => Err(JournalError::Damaged { file, finding }),
    }
}

fn connect(file: &Path) -> rusqlite::Result<Connection> {
    let db = Connection::open(file)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    // FULL syncs the write-ahead log at each commit. The default of many builds, NORMAL, would lose the last
    // transactions in a power cut.
    db.pragma_update(None, "synchronous", "FULL")?;
    db.busy_timeout(Duration::from_secs(5))?;
    Ok(db)
}

fn unreadable(file: &Path, error: rusqlite::Error) -> JournalError {
    let file = file.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            JournalError::Damaged { file, finding: error.to_string() }
        }
        _ => JournalError::Store { file, error },
    }
}

fn migrate(db: &mut Connection, file: &Path) -> Result<(), JournalError> {
    let failed = |error| unreadable(file, error);
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let found: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
    let Some(missing) = usize::try_from(found).ok().and_then(|applied| MIGRATIONS.get(applied..)) else {
        return Err(JournalError::TooNew { file: PathBuf::from(file), found, known });
    };

    for (version, change) in (found + 1..).zip(missing) {
        let step = db.transaction().map_err(failed)?;
        step.execute_batch(change).map_err(failed)?;
        step.pragma_update(None, "user_version", version).map_err(failed)?;
        step.commit().map_err(failed)?;
    }
    Ok(())
}

/// Notes what has arrived, in the order of arrival.
pub(super) fn admit(db: &Connection, entries: &[Entry], now: Timestamp) -> rusqlite::Result<Vec<Admitted>> {
    let admit = |entry: &Entry| match entry {
        Entry::Job(job) => admit_job(db, job, now),
        Entry::Report { id, payload } => admit_report(db, id, payload, now),
    };
    entries.iter().map(admit).collect()
}

/// Puts a report into the outbox unless this message was reported before.
fn admit_report(db: &Connection, id: &str, payload: &Bytes, now: Timestamp) -> rusqlite::Result<Admitted> {
    let reported = db.prepare_cached("SELECT 1 FROM answers WHERE job_id = ?1")?.exists([id])?;
    if reported {
        return Ok(Admitted::Known);
    }
    answer(db, id, payload, None, now).map(Admitted::Report)
}

fn admit_job(db: &Connection, job: &NewJob, now: Timestamp) -> rusqlite::Result<Admitted> {
    let mut answered =
        db.prepare_cached("SELECT id, payload, deadline, sent FROM answers WHERE job_id = ?1")?;
    let known = answered
        .query_row([&job.job_id], |row| Ok((read_answer(row)?, row.get::<_, bool>(3)?)))
        .optional()?;
    match known {
        Some((answer, true)) => return Ok(Admitted::Answered(answer)),
        Some((_, false)) => return Ok(Admitted::Known),
        None => {}
    }

    let added = db
        .prepare_cached(
            // An attempt that joins a started run counts as started: it ends with that run.
            "INSERT INTO jobs (job_id, kind, key, message, received_at, started) VALUES (?1, ?2, ?3, ?4, ?5,
                 ?6 OR EXISTS (SELECT 1 FROM jobs WHERE kind = ?2 AND key = ?3 AND started = 1))
             ON CONFLICT (job_id) DO NOTHING",
        )?
        .execute(params![
            job.job_id,
            job.kind,
            job.key,
            &job.message[..],
            now.as_millisecond(),
            job.started
        ])?;
    Ok(if added == 1 { Admitted::New } else { Admitted::Known })
}

/// Notes that the handler is about to run for all attempts of this kind and key.
pub(super) fn start(db: &Connection, kind: &str, key: &str) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE jobs SET started = 1 WHERE kind = ?1 AND key = ?2")?.execute([kind, key])?;
    Ok(())
}

/// The result that is remembered for this kind and key.
pub(super) fn recall(db: &Connection, kind: &str, key: &str) -> rusqlite::Result<Option<String>> {
    db.prepare_cached("SELECT result FROM results WHERE kind = ?1 AND key = ?2")?
        .query_row([kind, key], |row| row.get(0))
        .optional()
}

/// Moves jobs from the inbox to the outbox, with their answers, and remembers a result.
pub(super) fn finish(
    db: &Connection,
    finished: &[Finished],
    memory: Option<&Memory>,
    now: Timestamp,
) -> rusqlite::Result<Vec<Answer>> {
    if let Some(memory) = memory {
        db.prepare_cached(
            "INSERT INTO results (kind, key, result, made_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (kind, key) DO UPDATE SET result = ?3, made_at = ?4",
        )?
        .execute(params![memory.kind, memory.key, memory.result, now.as_millisecond()])?;
    }

    let mut remove = db.prepare_cached("DELETE FROM jobs WHERE job_id = ?1")?;
    let mut finish = |job: &Finished| {
        remove.execute([&job.job_id])?;
        answer(db, &job.job_id, &job.payload, job.deadline, now)
    };
    finished.iter().map(&mut finish).collect()
}

/// Adds a message to the outbox, under a job's id or a report's. A job has one answer: a second one replaces the
/// first.
fn answer(
    db: &Connection,
    job_id: &str,
    payload: &Bytes,
    deadline: Option<Timestamp>,
    now: Timestamp,
) -> rusqlite::Result<Answer> {
    let id = db
        .prepare_cached(
            "INSERT INTO answers (job_id, payload, deadline, made_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (job_id) DO UPDATE SET payload = ?2, deadline = ?3, made_at = ?4, sent = 0
             RETURNING id",
        )?
        .query_row(
            params![job_id, &payload[..], deadline.map(Timestamp::as_millisecond), now.as_millisecond()],
            |row| row.get(0),
        )?;
    Ok(Answer { id, payload: payload.clone(), deadline })
}

/// Keeps the cancellation of a job, and forgets the oldest beyond `most`.
pub(super) fn cancel(db: &Connection, cancel: &Cancel, most: usize) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO cancels (job_id, reason, expires_at) VALUES (?1, ?2, ?3)
         ON CONFLICT (job_id) DO UPDATE SET expires_at = max(expires_at, ?3)",
    )?
    .execute(params![cancel.job_id.as_str(), cancel.reason, cancel.expires_at.as_millisecond()])?;

    let most = i64::try_from(most).unwrap_or(i64::MAX);
    db.prepare_cached(
        "DELETE FROM cancels WHERE seq <= (SELECT seq FROM cancels ORDER BY seq DESC LIMIT 1 OFFSET ?1)",
    )?
    .execute([most])?;
    Ok(())
}

/// Notes the last progress of jobs, for a process that runs them again.
pub(super) fn progress(db: &Connection, progress: &[(JobId, String)]) -> rusqlite::Result<()> {
    let mut note = db.prepare_cached("UPDATE jobs SET progress = ?2 WHERE job_id = ?1")?;
    for (job_id, data) in progress {
        note.execute([job_id.as_str(), data])?;
    }
    Ok(())
}

/// Puts another message in the place of one in the outbox.
pub(super) fn replace(db: &Connection, id: i64, payload: &[u8]) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE answers SET payload = ?2 WHERE id = ?1")?.execute(params![id, payload])?;
    Ok(())
}

/// Notes that a message has left the outbox. A job's answer is kept for redeliveries. Of a report only the id is
/// kept, so that a redelivery makes no second one; a report of an earlier version of the worker has no id.
pub(super) fn sent(db: &Connection, id: i64) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM answers WHERE id = ?1 AND job_id IS NULL")?.execute([id])?;
    db.prepare_cached("UPDATE answers SET payload = x'' WHERE id = ?1 AND job_id LIKE 'report-%'")?
        .execute([id])?;
    db.prepare_cached("UPDATE answers SET sent = 1 WHERE id = ?1 AND sent = 0")?.execute([id])?;
    Ok(())
}

/// Reads what an earlier process left behind.
pub(super) fn recover(db: &Connection) -> rusqlite::Result<Recovered> {
    let mut jobs = db.prepare("SELECT message, started, progress FROM jobs ORDER BY seq")?;
    let jobs = jobs.query_map([], |row| {
        let message = row.get::<_, Vec<u8>>(0)?.into();
        Ok(RecoveredJob { message, started: row.get(1)?, progress: row.get(2)? })
    })?;
    let mut answers = db.prepare("SELECT id, payload, deadline FROM answers WHERE sent = 0 ORDER BY id")?;
    let answers = answers.query_map([], read_answer)?;

    Ok(Recovered {
        jobs: jobs.collect::<Result<_, _>>()?,
        answers: answers.collect::<Result<_, _>>()?,
        cancels: recover_cancels(db)?,
        spooled: spooled::recover(db)?,
    })
}

fn recover_cancels(db: &Connection) -> rusqlite::Result<Vec<Cancel>> {
    let mut cancels = db.prepare("SELECT job_id, reason, expires_at FROM cancels ORDER BY seq")?;
    let rows = cancels.query_map([], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?))
    })?;

    let mut cancels = Vec::new();
    for row in rows {
        let (job_id, reason, expires_at) = row?;
        // Only what the worker itself has written is here.
        if let (Ok(job_id), Ok(expires_at)) = (JobId::parse(job_id), Timestamp::from_millisecond(expires_at))
        {
            cancels.push(Cancel { job_id, reason, expires_at });
        }
    }
    Ok(cancels)
}

fn read_answer(row: &rusqlite::Row<'_>) -> rusqlite::Result<Answer> {
    let deadline: Option<i64> = row.get(2)?;
    Ok(Answer {
        id: row.get(0)?,
        payload: row.get::<_, Vec<u8>>(1)?.into(),
        deadline: deadline.and_then(|milliseconds| Timestamp::from_millisecond(milliseconds).ok()),
    })
}

/// Forgets sent answers and results that are too old, the oldest sent answers beyond the size, and expired cancellations.
pub(super) fn forget(db: &Connection, retention: Retention, now: Timestamp) -> rusqlite::Result<()> {
    let age = jiff::SignedDuration::try_from(retention.age).unwrap_or(jiff::SignedDuration::MAX);
    let oldest = now.saturating_sub(age).unwrap_or(Timestamp::MIN).as_millisecond();
    let bytes = i64::try_from(retention.bytes).unwrap_or(i64::MAX);

    db.execute("DELETE FROM results WHERE made_at < ?1", [oldest])?;
    spooled::forget(db, oldest)?;
    db.execute("DELETE FROM cancels WHERE expires_at < ?1", [now.as_millisecond()])?;
    db.execute("DELETE FROM answers WHERE sent = 1 AND made_at < ?1", [oldest])?;
    db.execute(
        "DELETE FROM answers WHERE sent = 1 AND id IN (
             SELECT id FROM (SELECT id, sum(length(payload)) OVER (ORDER BY id DESC) AS size FROM answers)
             WHERE size > ?1
         )",
        [bytes],
    )?;
    Ok(())
}
